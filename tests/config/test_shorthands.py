"""Shorthand keys of `--set` expand to full keys."""

from __future__ import annotations

import pytest

from mica_ray.config import ConfigError, RunConfig
from mica_ray.config.overrides import WORLDS, override
from mica_ray.domains.loader import load_domain


def test_world_and_judge_set_domain_and_all_roles() -> None:
    config = override(RunConfig(), ["world=empa", "judge=vllm:m", "roles.actor=scripted"])
    assert config.domain == "mica_ray.domains.empa:EMPA"
    assert (config.roles.judge, config.roles.director, config.roles.actor) == ("vllm:m", "vllm:m", "scripted")


@pytest.mark.parametrize("place", WORLDS.values())
def test_every_world_is_a_domain(place: str) -> None:
    assert load_domain(place).axes


def test_unknown_world_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"Unknown world=emp\. Did you mean empa\?"):
        override(RunConfig(), ["world=emp"])
