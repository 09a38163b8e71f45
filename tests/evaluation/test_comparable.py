"""A score names every condition in which it differs from the published ones, and no other."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from mica_ray.config import RunConfig
from mica_ray.config.overrides import override
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.domains.empa import EMPA
from mica_ray.domains.empa.official import OFFICIAL_IDS
from mica_ray.domains.sage import SAGE
from mica_ray.evaluation.comparable import (
    PUBLISHED_SAMPLING,
    Played,
    played_as,
    published,
    reasons_not_comparable,
    reasons_of,
)
from mica_ray.evaluation.evaluate import ScenarioRow, summary_of_rows
from mica_ray.evaluation.rescore_tables import rescore_record
from mica_ray.evaluation.rescored_files import rescore
from mica_ray.types import ROLES, Sampling
from tests.evaluation.recorded_files import run_case, write

OFFICIAL = sorted(OFFICIAL_IDS)
AS_PUBLISHED = published(OFFICIAL)

SETTINGS: dict[str, Any] = {
    "rules": None,
    "roles": {
        "judge": {"model": "google/gemini-2.5-pro-002", "base_url": "https://host/v1"},
        "director": {"recording": "calls.jsonl", "mode": "record", "inner": {"model": "gemini-2.5-pro"}},
        "actor": "vllm:gemini-2.5-pro",
    },
    "sampling": {"temperature": 0.7, "top_p": 0.8, "max_tokens": 8192, "presence_penalty": 1.5, "stop": []},
}
"""Settings of an evaluation folder as in the published evaluations."""


def reasons(**changes: Any) -> tuple[str, ...]:
    return reasons_not_comparable(replace(AS_PUBLISHED, **changes))


def test_score_under_the_published_conditions_is_comparable() -> None:
    assert reasons() == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cases": OFFICIAL[:27]}, "3 of the 30 official cases are missing"),
        ({"cases": [*OFFICIAL, "script_001", "mine"]}, "2 cases are not official ones"),
        ({"num_failed": 1}, "1 dialogues failed and have no score"),
        ({"domain": "tutoring"}, "domain tutoring, not empa"),
        ({"has_potential": True}, "one scalar in place of the three needs"),
        ({"rules": replace(EMPA.rules, max_turns=44)}, "max_turns 44, not 45"),
        ({"rules": replace(EMPA.rules, tolerance=0.05)}, "success threshold a 0.05, not 0.1"),
        ({"rules": replace(EMPA.rules, check_from=4)}, "check_from 4, not 12"),
        ({"rules": None}, "the rules that end a dialogue are not recorded"),
        ({"sampling": replace(PUBLISHED_SAMPLING, temperature=1.0)}, "temperature 1.0, not 0.7"),
        ({"sampling": replace(PUBLISHED_SAMPLING, top_p=0.9)}, "top_p 0.9, not 0.8"),
        ({"sampling": replace(PUBLISHED_SAMPLING, presence_penalty=0.0)}, "presence_penalty 0.0, not 1.5"),
        ({"sampling": replace(PUBLISHED_SAMPLING, max_tokens=1024)}, "max_tokens 1024, not 8192"),
        ({"sampling": None}, "the sampling of the policy is not recorded"),
        ({"roles": None}, "the models of judge, director and actor are not recorded"),
        (
            {"roles": {**dict.fromkeys(ROLES, "gemini-2.5-pro"), "judge": "gpt-5"}},
            "judge gpt-5, not gemini-2.5-pro",
        ),
        (
            {"roles": {"judge": "gemini-2.5-pro", "actor": "gemini-2.5-pro"}},
            "director unknown, not gemini-2.5-pro",
        ),
    ],
)  # fmt: skip
def test_each_difference_is_the_only_reason(changes: dict[str, Any], reason: str) -> None:
    assert reasons(**changes) == (reason,)


def test_seed_and_stop_texts_of_the_sampling_do_not_count() -> None:
    assert reasons(sampling=replace(PUBLISHED_SAMPLING, seed=3, stop=("END",))) == ()


def test_stored_settings_name_models_of_every_form() -> None:
    played = played_as(SETTINGS, OFFICIAL, domain="empa")
    assert played.roles == {
        "judge": "google/gemini-2.5-pro-002", "director": "gemini-2.5-pro", "actor": "gemini-2.5-pro",
    }  # fmt: skip
    assert reasons_not_comparable(played) == ()


def test_rules_of_the_settings_and_those_of_the_evaluation_come_first() -> None:
    short = {**SETTINGS, "rules": {"max_turns": 15, "check_from": 12, "tolerance": 0.1}}
    assert reasons_not_comparable(played_as(short, OFFICIAL, domain="empa")) == ("max_turns 15, not 45",)
    whole = {**short, "evaluation": {"rules": asdict(EMPA.rules)}}
    assert reasons_not_comparable(played_as(whole, OFFICIAL, domain="empa")) == ()


def test_default_run_is_not_comparable_in_any_way() -> None:
    row = ScenarioRow("es-work-c-01", "work", "C", 50.0, 1, 1, 0.5, 6.0)
    evaluation = summary_of_rows((row,), num_failed_dialogues=0, num_failed_judgements=0, seed=0)
    values = RunConfig().model_dump(mode="json")
    assert reasons_of(values, evaluation, domain=EMOTIONAL_SUPPORT) == (
        "domain emotional_support, not empa",
        "30 of the 30 official cases are missing",
        "1 cases are not official ones",
        *(f"{role} scripted, not gemini-2.5-pro" for role in ("judge", "director", "actor")),
        "max_turns 12, not 45",
        "check_from 4, not 12",
        "success threshold a 0.05, not 0.1",
        "oscillation_window None, not 12",
        "top_p 1.0, not 0.8",
        "presence_penalty 0.0, not 1.5",
        "max_tokens 40, not 8192",
    )


def test_evaluation_is_measured_by_its_own_temperature() -> None:
    config = override(RunConfig(), ["rollout.sampling.temperature=0.7", "evaluation.temperature=1.0"])
    played = played_as(config.model_dump(mode="json"), OFFICIAL, domain=EMPA)
    assert played.sampling == Sampling(temperature=1.0, max_tokens=40)


def test_scalar_world_is_another_benchmark() -> None:
    found = reasons_not_comparable(played_as(None, (), domain=SAGE))
    assert found[:2] == ("domain sage, not empa", "one scalar in place of the three needs")


def test_evaluation_folder_is_comparable_by_its_settings(tmp_path: Path) -> None:
    turn = {
        "user": "u", "reply": "r", "progress": [2, 0, 0], "regress": [0, 0, 0], "delta": [3, 0, 0],
        "state": [-2, 0, 0],
    }  # fmt: skip
    lines = [
        {"scenario": case, "domain": "empa", "stop": "limit", "initial_state": [-5, 0, 0], "turns": [turn]}
        for case in OFFICIAL
    ]
    path = write(tmp_path / "dialogues.jsonl", lines)
    unknown = (
        "the models of judge, director and actor are not recorded",
        "the sampling of the policy is not recorded",
    )
    (item,) = rescore([path], seed=0)
    assert set(unknown) < set(item.reasons)
    (tmp_path / "settings.json").write_text(json.dumps(SETTINGS))
    (item,) = rescore([path], seed=0)
    assert item.reasons == ()
    lost = [*lines[:-1], {**lines[-1], "stop": "failed"}]
    (item,) = rescore([write(path, lost)], seed=0)
    assert item.reasons == (
        "1 of the 30 official cases are missing", "1 dialogues failed and have no score",
    )  # fmt: skip


def test_reasons_are_in_the_record(tmp_path: Path) -> None:
    scores = rescore([write(tmp_path / "runs.jsonl", [run_case()])], seed=0)
    (record,) = rescore_record(scores).values()
    assert record["reasons_not_comparable"] == [
        "30 of the 30 official cases are missing", "1 cases are not official ones",
    ]  # fmt: skip


def test_published_runs_are_comparable_with_themselves(benchmark_data: Path) -> None:
    paths = sorted((benchmark_data / "empa" / "recorded_runs").glob("*.jsonl"))
    assert [item.reasons for item in rescore(paths, seed=0)] == [()] * 4


def test_what_is_not_recorded_is_a_reason() -> None:
    assert len(reasons_not_comparable(Played(OFFICIAL))) == 3  # Roles, rules and sampling.
