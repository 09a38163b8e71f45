"""`--set`: what it changes, and its one-line errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from mica_ray.chat.openai_api import Endpoint
from mica_ray.config import ConfigError, RunConfig
from mica_ray.config.overrides import override, read_value
from mica_ray.credit import (
    AnchorStates,
    CreditEstimator,
    Grpo,
    LambdaReturns,
    Mica,
    ReinforcePlusPlus,
    ReturnToGo,
    TurnGae,
)
from tests.config.own_roles import OWN_JUDGE


def complain(*assignments: str) -> str:
    """Return the error message of invalid assignments, which must be one line."""
    with pytest.raises(ConfigError) as caught:
        override(RunConfig(), assignments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_override_reads_each_value_as_its_field_asks() -> None:
    config = override(
        RunConfig(),
        [
            "name=7b",
            "seed=3",
            "learner.learning_rate=1e-6",
            "learner.gradient_checkpointing=true",
            "learner.adam_betas=[0.8, 0.9]",
            "evaluation.max_scenarios=4",
            "out=runs/x",
            "rollout.sampling.top_p=0.5",
        ],
    )
    assert (config.name, config.seed, config.learner.learning_rate) == ("7b", 3, 1e-6)
    assert config.learner.gradient_checkpointing is True
    assert config.learner.adam_betas == (0.8, 0.9)
    assert (config.evaluation.max_scenarios, config.out) == (4, Path("runs/x"))
    assert config.rollout.sampling.top_p == 0.5
    assert override(config, ["evaluation.max_scenarios=null"]).evaluation.max_scenarios is None


def test_override_leaves_everything_else_as_it_was() -> None:
    changed = override(RunConfig(), ["credit.alpha=0.3"])
    assert changed.credit == Mica(alpha=0.3)
    assert override(changed, ["credit.alpha=0.5"]) == RunConfig()


def test_whole_estimator_can_be_chosen_and_then_changed() -> None:
    config = override(RunConfig(), ["credit=mica_ray.credit:ReinforcePlusPlus", "credit.kind=batch_idr"])
    assert config.credit == ReinforcePlusPlus(kind="batch_idr")
    assert override(config, ["credit=mica_ray.credit.grpo:Grpo"]).credit == Grpo()


@pytest.mark.parametrize(
    ("assignments", "estimator"),
    [
        (["credit=mica_ray.credit:ReturnToGo", "credit.gamma=0.9"], ReturnToGo(gamma=0.9)),
        (["credit=mica_ray.credit:AnchorStates", "credit.resolution=2"], AnchorStates(resolution=2.0)),
        (["credit=mica_ray.credit:TurnGae", "credit.lam=0.5"], TurnGae(lam=0.5)),
        (["credit=mica_ray.credit:LambdaReturns", "credit.scope=batch"], LambdaReturns(scope="batch")),
    ],
)
def test_every_estimator_can_be_named_and_is_stored_with_the_run(
    assignments: list[str], estimator: CreditEstimator
) -> None:
    config = override(RunConfig(), assignments)
    assert config.credit == estimator
    assert RunConfig.model_validate_json(config.model_dump_json()).credit == estimator


def test_fields_bound_to_each_other_move_together() -> None:
    # Each one on its own is invalid: replies of 2000 tokens do not fit the default context of 1024.
    config = override(RunConfig(), ["rollout.sampling.max_tokens=2000", "rollout.context_length=4000"])
    assert (config.rollout.sampling.max_tokens, config.rollout.context_length) == (2000, 4000)


@pytest.mark.parametrize(
    ("assignment", "parts"),
    [
        ("learner.learning_rat=1", ["Unknown key learner.learning_rat", "Did you mean learning_rate"]),
        ("lerner.learning_rate=1", ["Unknown key lerner", "Did you mean learner"]),
        ("credit.alhpa=1", ["Unknown key credit.alhpa", "Did you mean alpha"]),
        ("seed.deep=1", ["Unknown key seed.deep", "has no fields"]),
        ("credit.alpha=1.2", ["credit", "alpha must be in [0, 1], got 1.2."]),
        ("learner.learning_rate=fast", ["learner.learning_rate", "number", "'fast'"]),
        ("credit=mica_ray.credit:Gropo", ["has no Gropo", "Did you mean Grpo"]),
        ("credit=mica_ray.creddit:Grpo", ["cannot import mica_ray.creddit"]),
        ("credit=Grpo", ["module:NAME"]),
        ("credit=mica_ray.types:Status", ["must be a dataclass"]),
        ("roles.judge=gpt", ["roles.judge", "scripted", "vllm:MODEL", "'gpt'"]),
        ('roles.judge={"modl": "m"}', ["roles.judge", "Unknown key modl of Endpoint", "Did you mean model"]),
        ('roles.judge={"model": "m", "attempts": 0}', ["roles.judge", "attempts must be >= 1"]),
        (f"roles.actor={OWN_JUDGE}", ["actor", "QuestionJudge has no chat()"]),
        ("roles.judge=mica_ray.credit:Mica", ["roles.judge", "must have chat(), or score() for the judge"]),
        (f'roles.judge={{"object": "{OWN_JUDGE}", "levle": 2}}', ["Unknown key levle", "Did you mean level"]),
        ('roles.judge={"recording": "a", "mode": "record"}', ["roles.judge", "needs an inner role"]),
        ('roles.judge={"recording": "a", "mode": "tape"}', ["roles.judge"]),
        (
            'roles={"judge": {"recording": "a"}, "actor": {"recording": "a", "mode": "record", "inner": '
            '"scripted"}}',
            ["a is already used by another role"],
        ),
        (
            'roles={"judge": "vllm:m", "max_tokens": 4096}',
            ["engine.max_model_len must be > max_tokens", "4096"],
        ),
        ("learner.adam_betas=[1,", ["is not valid JSON"]),
        ("num_engines=0", ["num_engines must be >= 1, got 0."]),
        ("learner.total_updates=7", ["learner.total_updates must be 176", "got 7", "loop.num_steps"]),
        (
            "engine.weight_transfer=tcp",
            ["engine.weight_transfer must be 'bucket' or 'nccl' or 'gloo', got 'tcp'."],
        ),
        ("name=a/b", ["name", "'a/b'"]),
        ("roles.deadline_seconds=0", ["roles.deadline_seconds must be > 0, got '0'."]),
        ("seed", ["--set seed", "key.path=value"]),
    ],
)
def test_bad_assignment_is_one_line_with_key_and_remedy(assignment: str, parts: list[str]) -> None:
    message = complain(assignment)
    assert [part for part in parts if part not in message] == []


def test_learner_schedule_spans_the_run() -> None:
    config = override(RunConfig(), ["loop.num_steps=10", "learner.mini_batches=2", "learner.epochs=3"])
    assert config.whole_learner.total_updates == 60


def test_values_are_set_without_parsing_and_validated_with_the_assignments() -> None:
    judge = {"model": "m=1", "base_url": "http://127.0.0.1:1/v1"}
    config = override(
        RunConfig(),
        ["rollout.context_length=4000"],
        values={"roles.judge": judge, "rollout.sampling.max_tokens": 2000, "rules": None},
    )
    assert config.roles.judge == Endpoint(judge["model"], judge["base_url"])
    assert config.rollout.sampling.max_tokens == 2000
    with pytest.raises(ConfigError, match=r"Unknown key roles\.jugde\. Did you mean judge"):
        override(RunConfig(), [], values={"roles.jugde": "scripted"})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        ("None", None),
        ('{"a": 1}', {"a": 1}),
        ("[1]", [1]),
        ('"1"', "1"),
        ("1", "1"),
        ("a=b", "a=b"),
    ],
)
def test_text_is_read_as_on_the_command_line(text: str, value: object) -> None:
    assert read_value(text) == value


def test_potential_reward_has_the_discount_of_the_returns() -> None:
    config = override(RunConfig(), ["rewards.kind=potential", "credit.gamma=0.9"])
    assert config.whole_rewards.gamma == 0.9
    assert override(config, ["rewards.gamma=0.9"]).whole_rewards.gamma == 0.9
    assert override(RunConfig(), ["credit.gamma=0"]).whole_rewards.gamma is None
    message = complain("rewards.kind=potential", "rewards.gamma=1")
    assert "rewards.gamma must be credit.gamma (0.85) for rewards.kind=potential, got 1" in message


@pytest.mark.parametrize("key", ["out", "policy", "cards", "scenarios_file", "card_ratings", "tracking_uri"])
@pytest.mark.parametrize("text", ["runs/a\udcff", "runs/a\x00b"])
def test_path_that_is_no_text_is_refused_with_its_key(key: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} must be valid Unicode without NUL"):
        override(RunConfig(), [f"{key}={text}"])
