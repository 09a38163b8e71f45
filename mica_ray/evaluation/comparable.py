"""Why a score cannot be compared with the published EMPA scores.

EPM-Q is defined on any path of states, but the published figures hold for 30 cases under fixed conditions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, cast

from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.progress import ProgressRules
from mica_ray.domains.empa.empa import EMPA
from mica_ray.domains.empa.official import OFFICIAL_IDS
from mica_ray.evaluation.evaluate import SAMPLING_FIELDS, Evaluation
from mica_ray.types import ROLES, Sampling

PUBLISHED_MODEL = "gemini-2.5-pro"
"""Plays judge, Director and Actor in the published evaluations (arXiv 2603.06194)."""
PUBLISHED_SAMPLING = Sampling(temperature=0.7, top_p=0.8, max_tokens=8192, presence_penalty=1.5)
"""How the policy replies in the published evaluations (arXiv 2603.06194)."""

_NAMES = {"tolerance": "success threshold a"}
"""Names of rules in messages, where they differ from the field's."""


@dataclass(frozen=True, slots=True)
class Played:
    """How the dialogues behind a score were played. None: the record does not say."""

    cases: Collection[str]
    """Ids of the cases that have a score."""
    domain: str = EMPA.name
    has_potential: bool = False
    """Whether one scalar takes the place of the three needs."""
    roles: Mapping[str, str | None] | None = None
    """Model by role."""
    rules: ProgressRules | None = None
    sampling: Sampling | None = None
    """Of the policy; the seed and the stop texts do not count."""
    num_failed: int = 0
    """Dialogues without a score."""


def published(cases: Collection[str], *, num_failed: int = 0) -> Played:
    """Return how the released runs were played."""
    return Played(
        cases=cases,
        roles=dict.fromkeys(ROLES, PUBLISHED_MODEL),
        rules=EMPA.rules,
        sampling=PUBLISHED_SAMPLING,
        num_failed=num_failed,
    )


def played_as(
    values: Mapping[str, object] | None,
    cases: Collection[str],
    *,
    domain: Domain | str,
    num_failed: int = 0,
) -> Played:
    """Return how dialogues were played under a config.

    Args:
        values: a run's config or the settings of an evaluation folder, as JSON values; None if unknown.
        cases: ids of the cases that have a score.
        domain: with the rules of the run; or its name, for stored dialogues.
        num_failed: dialogues without a score.
    """
    name = domain if isinstance(domain, str) else domain.name
    played = Played(cases, domain=name, num_failed=num_failed)
    if not isinstance(domain, str):
        played = replace(played, has_potential=domain.potential is not None, rules=domain.rules)
    if values is None:
        return played
    roles = _mapping(values.get("evaluation_roles") or values.get("roles"))
    return replace(
        played,
        roles={role: _model_of(roles.get(role)) for role in ROLES},
        rules=_rules_of(values, name) or played.rules,
        sampling=_sampling_of(values),
    )


def reasons_not_comparable(played: Played) -> tuple[str, ...]:
    """Return why a score cannot be compared with published ones; empty if it can.

    Compared are the cases, the domain, the models of the roles, the rules that end a dialogue and the
    sampling of the policy. A condition that the record does not contain is a reason as well.
    """
    return (
        *_domain_reasons(played),
        *_case_reasons(played),
        *_role_reasons(played.roles),
        *_rule_reasons(played.rules),
        *_sampling_reasons(played.sampling),
    )


def reasons_of(values: Mapping[str, object], evaluation: Evaluation, *, domain: Domain) -> tuple[str, ...]:
    """Return why an evaluation cannot be compared with published scores; empty if it can.

    Args:
        values: the config of the evaluation, as JSON values.
        evaluation: the scores.
        domain: with the scenarios and rules of the evaluation.
    """
    cases = [row.scenario for row in evaluation.rows if row.samples]
    failed = evaluation.num_failed_dialogues
    return reasons_not_comparable(played_as(values, cases, domain=domain, num_failed=failed))


def _domain_reasons(played: Played) -> list[str]:
    reasons = [] if played.domain == EMPA.name else [f"domain {played.domain}, not {EMPA.name}"]
    return [*reasons, "one scalar in place of the three needs"] if played.has_potential else reasons


def _case_reasons(played: Played) -> list[str]:
    cases, reasons = set(played.cases), list[str]()
    if missing := len(OFFICIAL_IDS - cases):
        reasons.append(f"{missing} of the {len(OFFICIAL_IDS)} official cases are missing")
    if others := len(cases - OFFICIAL_IDS):
        reasons.append(f"{others} cases are not official ones")
    if played.num_failed:
        reasons.append(f"{played.num_failed} dialogues failed and have no score")
    return reasons


def _role_reasons(roles: Mapping[str, str | None] | None) -> list[str]:
    if roles is None:
        return ["the models of judge, director and actor are not recorded"]
    return [
        f"{role} {roles.get(role) or 'unknown'}, not {PUBLISHED_MODEL}"
        for role in reversed(ROLES)
        if not _is_published(roles.get(role) or "")
    ]


def _is_published(model: str) -> bool:
    """Whether a name is that of the published model, also with a provider in front or a version behind."""
    return model.rpartition("/")[2].lower().startswith(PUBLISHED_MODEL)


def _rule_reasons(rules: ProgressRules | None) -> list[str]:
    if rules is None:
        return ["the rules that end a dialogue are not recorded"]
    return _differences(asdict(rules), asdict(EMPA.rules))


def _sampling_reasons(sampling: Sampling | None) -> list[str]:
    if sampling is None:
        return ["the sampling of the policy is not recorded"]
    published = asdict(PUBLISHED_SAMPLING)
    return _differences(asdict(sampling), {name: published[name] for name in SAMPLING_FIELDS})


def _differences(found: Mapping[str, object], wanted: Mapping[str, object]) -> list[str]:
    return [
        f"{_NAMES.get(name, name)} {found[name]}, not {value}"
        for name, value in wanted.items()
        if found[name] != value
    ]


def _model_of(role: object) -> str | None:
    """Return the model that a role of a stored config names; None for a recording without one."""
    if isinstance(role, str):
        return role.partition(":")[2] if role.startswith("vllm:") else role
    values = _mapping(role)
    if "recording" in values:
        return _model_of(values.get("inner"))
    found = values.get("model") or values.get("object")
    return None if found is None else str(found)


def _rules_of(values: Mapping[str, object], domain: str) -> ProgressRules | None:
    stored = _mapping(_mapping(values.get("evaluation")).get("rules") or values.get("rules"))
    if stored:
        # A rule that an older version did not have keeps its default.
        known = {field.name for field in fields(ProgressRules)}
        return ProgressRules(**{name: cast("Any", stored[name]) for name in known & stored.keys()})
    return EMPA.rules if domain == EMPA.name else None


def _sampling_of(values: Mapping[str, object]) -> Sampling | None:
    """Return the policy's sampling in an evaluation folder's settings, or in a run's evaluations."""
    found = dict(_mapping(values.get("sampling") or _mapping(values.get("rollout")).get("sampling")))
    if not found:
        return None
    own = _mapping(values.get("evaluation"))
    found |= {name: own[name] for name in SAMPLING_FIELDS if own.get(name) is not None}
    return Sampling(**{name: cast("Any", found[name]) for name in SAMPLING_FIELDS if name in found})


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}
