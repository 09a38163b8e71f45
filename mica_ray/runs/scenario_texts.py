"""The scenarios that a run started with, as digests, so that a resume notices changes.

The evaluations before and after training are compared, so they must play the same texts in the same way.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mica_ray.config.references import ConfigError
from mica_ray.config.run_config import RunConfig
from mica_ray.files import write_json
from mica_ray.runs.folder import RunFolder, read_object
from mica_ray.runs.provenance import scenarios_digest
from mica_ray.types import Scenario

_LOG = logging.getLogger(__name__)

_MOST_NAMES = 5
"""Scenarios named in one message."""


@dataclass(frozen=True, slots=True)
class ScenarioTexts:
    """Digests of the scenarios of a run by id, and the settings of its evaluations."""

    training: Mapping[str, str]
    evaluation: Mapping[str, str]
    """Only the scenarios that are played; their digests are empty if the run recorded none."""
    settings: Mapping[str, Any]
    """Dialogues per scenario, temperature and seed."""

    @classmethod
    def of(
        cls, config: RunConfig, training: Sequence[Scenario], evaluation: Sequence[Scenario]
    ) -> ScenarioTexts:
        """Return the texts of a run.

        Args:
            config: of the run.
            training: its training scenarios.
            evaluation: all scenarios of its evaluation split.
        """
        played = evaluation[: config.evaluation.max_scenarios]
        return cls(_digests(training), _digests(played), _settings(config))

    @classmethod
    def read(cls, folder: RunFolder) -> ScenarioTexts | None:
        """Read the texts of a run; None if it has neither recorded them nor measured anything.

        Runs of older versions recorded no digests: the ids of their first evaluation are returned.

        Raises:
            ConfigError: the file is invalid.
        """
        if folder.scenarios.is_file():
            record = read_object(folder.scenarios)
            try:
                return cls(**{part: dict(record[part]) for part in ("training", "evaluation", "settings")})
            except (KeyError, TypeError, ValueError) as error:
                raise ConfigError(
                    f"{folder.scenarios} is invalid ({error!r}). Delete it to resume without comparing texts."
                ) from error
        config = RunConfig.read(folder.config_file, trusted=True)
        before = folder.read_evaluation("before", seed=config.evaluation.seed)
        if before is None:
            return None
        return cls({}, dict.fromkeys((row.scenario for row in before.rows), ""), _settings(config))

    def write(self, folder: RunFolder) -> None:
        """Write the texts to the run folder."""
        write_json(folder.scenarios, asdict(self))


def check_resumed(folder: RunFolder, now: ScenarioTexts) -> None:
    """Check that a resumed run evaluates what it evaluated before training; report changed texts.

    Args:
        folder: of the run.
        now: scenarios and settings with which it would continue.

    Raises:
        ConfigError: the run was already evaluated before training, and the second evaluation would play other
            scenarios, other texts or with other settings.
    """
    stored = ScenarioTexts.read(folder)
    if stored is None:
        return
    if changed := _changed(stored.training, now.training):
        _LOG.warning(
            "%s: the texts of %d training scenarios have changed: %s. The run continues with the new ones.",
            folder.path, len(changed), _listed(changed),
        )  # fmt: skip
    if folder.read_evaluation("before", seed=0) is None:
        return
    if not any(stored.evaluation.values()):
        _LOG.warning("%s recorded no digests, so changed scenario texts are not noticed.", folder.path)
    problems = [
        f"scenario {name} {problem}"
        for name, problem in (
            *((name, "is missing now") for name in stored.evaluation if name not in now.evaluation),
            *((name, "is new") for name in now.evaluation if name not in stored.evaluation),
            *((name, "has other texts") for name in _changed(stored.evaluation, now.evaluation)),
        )
    ]
    problems += [
        f"evaluation.{key} was {stored.settings.get(key)!r} and is now {now.settings.get(key)!r}"
        for key in {**stored.settings, **now.settings}
        if now.settings.get(key) != stored.settings.get(key)
    ]
    if problems:
        raise ConfigError(
            f"{folder.path} was evaluated before training, and the evaluation after it would differ: "
            f"{_listed(problems)}. Restore the scenarios and the settings of evaluation, or start a new run."
        )


def _digests(scenarios: Sequence[Scenario]) -> dict[str, str]:
    return {scenario.id: scenarios_digest([scenario]) for scenario in scenarios}


def _settings(config: RunConfig) -> dict[str, Any]:
    evaluation = config.evaluation
    values = {"samples": evaluation.samples, "temperature": evaluation.temperature, "seed": evaluation.seed}
    # Runs of older versions recorded none of them.
    own = asdict(evaluation)
    names = ("top_p", "presence_penalty", "max_tokens", "rules")
    return values | {name: own[name] for name in names if own[name] is not None}


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the ids that have two different digests."""
    return [name for name, digest in before.items() if digest and now.get(name, digest) != digest]


def _listed(items: Sequence[str]) -> str:
    more = f" and {len(items) - _MOST_NAMES} more" if len(items) > _MOST_NAMES else ""
    return ", ".join(items[:_MOST_NAMES]) + more
