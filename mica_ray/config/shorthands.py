"""Short keys of `--set` for what is said most often: `world=empa`, `judge=vllm:MODEL`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mica_ray.config.references import ConfigError, nearest
from mica_ray.dialogue.answer_counts import ROLES

WORLDS: Mapping[str, str] = {
    "embedded": "mica_ray.domains.emotional_support:EMOTIONAL_SUPPORT",
    "empa": "mica_ray.domains.empa:EMPA",
    "sage": "mica_ray.domains.sage:SAGE",
    "tutoring": "mica_ray.domains.tutoring:TUTORING",
    "customer_support": "mica_ray.domains.customer_support:CUSTOMER_SUPPORT",
}
"""Domains by short name."""


def spelled_out(assignments: Sequence[str]) -> Iterator[str]:
    """Give assignments with whole keys: `world=NAME` sets the domain, `judge=X` all three roles.

    Who judges plays the user and the Director too, until `roles.actor` or `roles.director` says otherwise.

    Raises:
        ConfigError: no such world.
    """
    for assignment in assignments:
        key, separator, text = (part.strip() for part in assignment.partition("="))
        if separator and key == "judge":
            yield from (f"roles.{role}={text}" for role in ROLES)
        elif separator and key == "world":
            if text not in WORLDS:
                known = f"{nearest(text, list(WORLDS))}, or set domain=module:NAME"
                raise ConfigError(f"world={text}: not known; {known}")
            yield f"domain={WORLDS[text]}"
        else:
            yield assignment
