"""A training run with a second judge: from the config to metrics, costs and files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mica_ray.config import RoleConfig, RunConfig
from mica_ray.config.overrides import override
from mica_ray.config.references import ConfigError
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.embedded.planted.flawed_judge import FlawedJudge
from mica_ray.launch.cost_estimate import estimate_costs
from mica_ray.launch.world import build_world, check_roles
from mica_ray.runs.folder import RunFolder
from mica_ray.training.metrics import METRICS
from tests.launch import trained_run
from tests.small_policy import small_folder

FLAWED = "mica_ray.embedded.planted.flawed_judge:FlawedJudge"
TINY = (
    "loop.num_steps=2", "loop.scenarios_per_step=2", "learner.mini_batches=1", "loop.track_policy=false",
    "rollout.group_size=2", "rollout.sampling.max_tokens=6", "rollout.context_length=512", "seed=3",
    f"roles.judge={FLAWED}",
)  # fmt: skip


def train(path: Path, policy: Path, *settings: str) -> tuple[RunFolder, list[dict[str, float]]]:
    """Train two steps in this process."""
    return trained_run.train(path, [*TINY, f"policy={policy}", *settings])


@pytest.mark.slow
def test_audited_run_plays_the_same_dialogues_and_counts_its_costs_apart(tmp_path: Path) -> None:
    policy = small_folder(tmp_path / "small", tied=True)
    plain, plain_steps = train(tmp_path / "plain", policy)
    audited, steps = train(
        tmp_path / "audited", policy, "roles.audit_judge=scripted", "audit.sample=2", "audit.probe_every=1"
    )
    assert audited.dialogues.read_bytes() == plain.dialogues.read_bytes()
    assert not plain.audit.exists() and not any(name.startswith("audit/") for name in plain_steps[0])
    for step in steps:
        assert set(step) <= set(METRICS)
        # The random policy says nothing that the flaw knows, so both judges agree in every dialogue.
        assert (step["audit/gap"], step["audit/dialogues"], step["audit/probes"]) == (0, 2, 8)
    rows = [json.loads(line) for line in audited.audit.read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 0, 1, 1]
    num_judged = sum(len(row["deltas"]) for row in rows)
    assert sum(step["audit/calls"] for step in steps) == num_judged + 2 * 8
    # The calls of training are the same as without the audit.
    assert [step["judge_calls"] for step in steps] == [step["judge_calls"] for step in plain_steps]


def test_second_judge_is_built_apart_from_the_first() -> None:
    roles = override(RunConfig(), [f"roles.judge={FLAWED}", "roles.audit_judge=scripted"]).roles
    assert roles.judge == FlawedJudge() and list(roles.sources) == [
        "actor",
        "director",
        "judge",
        "audit_judge",
    ]
    assert build_world(roles, EMOTIONAL_SUPPORT, environment={}, served={}.__getitem__).audit_judge
    plain = build_world(RoleConfig(), EMOTIONAL_SUPPORT, environment={}, served={}.__getitem__)
    assert plain.audit_judge is None


def test_judge_that_would_audit_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"audit_judge must be another judge than roles\.judge"):
        override(RunConfig(), ["roles.audit_judge=scripted"])


def test_key_and_cost_of_the_audit_judge_are_checked_before_the_start() -> None:
    endpoint = '{"model": "m", "api_key_env": "AUDIT_KEY", "price_per_million_prompt_tokens": 1}'
    config = override(
        RunConfig(), [f"roles.audit_judge={endpoint}", "audit.every=4", "audit.sample=5", "loop.num_steps=9"]
    )
    with pytest.raises(ConfigError, match=r"roles\.audit_judge: .*AUDIT_KEY"):
        check_roles(config.roles, {})
    costs = estimate_costs(config, EMOTIONAL_SUPPORT)
    # Audits at steps 0, 4 and 8; five dialogues of at most 12 turns.
    assert costs["audit_judge"].calls == 3 * 5 * 12 and costs["audit_judge"].usd > 0
    assert "audit_judge" not in estimate_costs(RunConfig(), EMOTIONAL_SUPPORT)


def test_audit_is_a_section_of_the_config_and_checked_there() -> None:
    config = override(
        RunConfig(), ["audit.sample=3", "audit.alarm.baseline=4", "audit.stop_on_alarm=true"]
    ).audit
    assert (config.sample, config.alarm.baseline, config.stop_on_alarm) == (3, 4, True)
    with pytest.raises(ConfigError, match=r"baseline must be >= 2, got 1"):
        override(RunConfig(), ["audit.alarm.baseline=1"])
