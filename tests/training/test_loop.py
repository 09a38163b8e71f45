"""The loop with a real learner and made-up dialogues.

Recorded once, resumed bit for bit, stopped by an outage.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch

from mica_ray.credit import Mica
from mica_ray.credit.mica import Horizon
from mica_ray.rollout.engine import PolicyEngine
from mica_ray.rollout.weights import resolve
from mica_ray.training.checkpoint import read_run_state
from mica_ray.training.local_learner import LocalLearner
from mica_ray.training.loop import BudgetError, RolloutError, ending_of, is_due, train
from mica_ray.training.metrics import METRICS
from mica_ray.training.update import LearnerConfig
from mica_ray.types import (
    PolicyWeights,
    Scenario,
    Stop,
    TokenBatch,
    Trajectory,
    UpdateReport,
)
from tests.tiny_policy import write_tiny_policy
from tests.training.made_up_run import StageList, VersionEngine, new_run, resumed


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_tiny_policy(tmp_path_factory.mktemp("policy"))


@pytest.mark.parametrize(("horizon", "trained"), [("survivors", 50), ("shortest", 30)])
async def test_turns_beyond_the_horizon_are_not_trained_on(
    policy: Path, tmp_path: Path, horizon: Horizon, trained: int
) -> None:
    # Per group: replies of 5 tokens in 2 + 1 + 2 judged turns. T_min is 1, which leaves 1 + 1 + 1.
    run, _ = new_run(policy, tmp_path, 1)
    await train(replace(run, credit=Mica(horizon=horizon)))
    metrics = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert metrics["trained_tokens"] == trained


async def test_resumed_run_ends_in_the_same_weights_and_records(policy: Path, tmp_path: Path) -> None:
    straight, _ = new_run(policy, tmp_path / "straight", 6, checkpoint_every=2)
    await train(straight)
    # Stopped after step 4; the last checkpoint continues at step 4, so step 4 runs again.
    stopped, _ = new_run(policy, tmp_path / "stopped", 5, checkpoint_every=2)
    await train(stopped)
    newest = stopped.checkpoints.latest()
    assert newest is not None and read_run_state(newest).step == 5
    newest.rename(newest.with_name("gone"))
    before = (tmp_path / "stopped" / "dialogues.jsonl").read_text()
    again, _ = new_run(policy, tmp_path / "other", 6, checkpoint_every=2)
    again = resumed(replace(again, checkpoints=stopped.checkpoints), tmp_path / "stopped")
    assert again.first_step == 4
    await train(again)
    np.testing.assert_array_equal(
        resolve(again.learner.weights())[0].data, resolve(straight.learner.weights())[0].data
    )
    records = (tmp_path / "stopped" / "dialogues.jsonl").read_text()
    assert records == (tmp_path / "straight" / "dialogues.jsonl").read_text()
    assert records.startswith(before)
    metrics = pandas.read_json(tmp_path / "stopped" / "metrics.jsonl", lines=True)
    assert metrics["step"].tolist() == list(range(6))


async def test_records_and_metrics_say_what_happened(policy: Path, tmp_path: Path) -> None:
    run, engine = new_run(policy, tmp_path, 2)
    await train(run)
    assert engine.version == 2
    frame = pandas.read_json(tmp_path / "dialogues.jsonl", lines=True)
    assert len(frame) == 2 * 2 * 3
    turn = frame.loc[1, "turns"][1]
    assert (turn["status"], turn["reward"], turn["advantage"], turn["delta"]) == (
        "timed_out",
        None,
        None,
        None,
    )
    # Steps count from 0, and so do weight versions: on policy.
    assert [row["turns"][0]["policy_version"] for row in frame.to_dict("records")] == [0] * 6 + [1] * 6
    metrics = pandas.read_json(tmp_path / "metrics.jsonl", lines=True)
    assert set(metrics.columns) - {"step"} <= set(METRICS)
    # 2 scenarios x 3 dialogues x 2 turns, and sample 1 loses its second turn: 10 turns of 5 tokens.
    assert metrics["trained_turns"].tolist() == [10, 10]
    assert metrics["trained_tokens"].tolist() == [50, 50]
    assert metrics["failed_judgement_fraction"].tolist() == pytest.approx([2 / 12] * 2)
    assert metrics["survivor_fraction"].tolist() == pytest.approx([2 / 3] * 2)
    assert metrics["staleness_mean"].tolist() == [0, 0]
    rewards = [turn["reward"] for row in frame["turns"][:6] for turn in row if turn["reward"] is not None]
    assert metrics["idr_mean"].tolist()[0] == pytest.approx(np.mean(rewards))


async def test_outage_stops_the_run_with_its_first_reason(policy: Path, tmp_path: Path) -> None:
    run, _ = new_run(policy, tmp_path, 2)

    async def collect(
        step: int, scenarios: Sequence[Scenario], progress: Callable[[Trajectory], None]
    ) -> Sequence[Trajectory]:
        trajectories = await run.collect(step, scenarios, progress)
        return [
            replace(item, stop=Stop.FAILED, error="judge is down") if n < 4 else item
            for n, item in enumerate(trajectories)
        ]

    with pytest.raises(
        RolloutError, match=r"4 of 6 dialogues of step 0 failed\. First reason: judge is down"
    ):
        await train(replace(run, collect=collect))
    assert run.checkpoints.latest() is None


async def test_missing_judgements_stop_the_run_with_their_first_reason(policy: Path, tmp_path: Path) -> None:
    run, _ = new_run(policy, tmp_path, 2, max_failed_judgement_fraction=0.1)
    # One of three dialogues loses one of its two judgements: 2 of 12.
    with pytest.raises(
        RolloutError, match=r"2 of 12 judgements of step 0 failed\. First reason: late\. .*--resume"
    ):
        await train(run)


async def test_run_that_fails_too_often_stops_behind_a_checkpoint(policy: Path, tmp_path: Path) -> None:
    # Two judgements fail in every step and five may fail, so the third step is the last.
    run, _ = new_run(policy, tmp_path, 6, max_failures_per_run=5)
    with pytest.raises(RolloutError, match=r"Stopped before step 3 after 6 failures, 5 allowed"):
        await train(run)
    newest = run.checkpoints.latest()
    assert newest is not None and read_run_state(newest).step == 3
    metrics = pandas.read_json(tmp_path / "metrics.jsonl", lines=True)
    assert metrics["judge_timed_out"].tolist() == metrics["infrastructure_failures"].tolist() == [2.0] * 3
    # A resumed run counts the failures in its records too, and stops at once with the same limit.
    again, _ = new_run(policy, tmp_path / "other", 6, max_failures_per_run=5)
    again = resumed(replace(again, checkpoints=run.checkpoints), tmp_path)
    with pytest.raises(RolloutError, match="Stopped before step 3 after 6 failures"):
        await train(again)
    more = replace(again, loop=replace(again.loop, max_failures_per_run=100))
    await train(more)
    assert more.dialogues.num_failures == 12


async def test_spent_budget_stops_the_run_behind_a_checkpoint(policy: Path, tmp_path: Path) -> None:
    run, _ = new_run(policy, tmp_path, 6)

    def exhausted() -> str | None:
        return "3 of 3 USD are spent" if run.dialogues.num_failures >= 4 else None

    with pytest.raises(BudgetError, match="Stopped before step 2: 3 of 3 USD are spent"):
        await train(replace(run, exhausted=exhausted, spent=lambda: {"usd": 1.5}))
    newest = run.checkpoints.latest()
    assert newest is not None and read_run_state(newest).step == 2
    assert pandas.read_json(tmp_path / "metrics.jsonl", lines=True)["usd"].tolist() == [1.5, 1.5]


def test_ending_of_a_run_follows_from_what_ended_it() -> None:
    assert ending_of(None) == "finished"
    assert [ending_of(error) for error in (RolloutError("x"), OSError("x"))] == ["failed", "failed"]
    stopped = (BudgetError("x"), KeyboardInterrupt(), SystemExit(143), asyncio.CancelledError())
    assert {ending_of(error) for error in stopped} == {"stopped"}


async def test_user_sees_the_stages_and_evaluations_come_when_due(policy: Path, tmp_path: Path) -> None:
    run, engine = new_run(policy, tmp_path, 3, evaluate_every=2)
    versions: list[int] = []

    async def evaluate(served: PolicyEngine) -> Mapping[str, float]:
        versions.append(engine.version)
        return {"eval_score": 1.0}

    await train(replace(run, evaluations=(evaluate,)))
    assert versions == [2]
    progress = run.progress
    assert isinstance(progress, StageList)
    assert [name for step, name in progress.stages if step == 1] == [
        "collect dialogues", "update the policy", "publish weights", "evaluate",
    ]  # fmt: skip
    assert progress.stages[-1] == (2, "write checkpoint")
    assert progress.num_dialogues == 18


class SharingEngine(VersionEngine):
    """Shares a GPU with the learner: notes what happens to it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[object] = []

    async def load_weights(self, weights: PolicyWeights) -> None:
        await super().load_weights(weights)
        self.calls.append(("load", weights.version))

    async def sleep(self) -> None:
        self.calls.append("sleep")


async def test_an_engine_that_shares_a_gpu_sleeps_from_the_last_reply_to_the_next_weights(
    policy: Path, tmp_path: Path
) -> None:
    run, _ = new_run(policy, tmp_path, 2, evaluate_every=1)
    engine, collect = SharingEngine(), run.collect

    async def noted_collect(*arguments: Any) -> Sequence[Trajectory]:
        engine.calls.append("collect")
        return await collect(*arguments)

    async def evaluate(served: PolicyEngine) -> Mapping[str, float]:
        engine.calls.append("evaluate")
        return {}

    class NotedLearner(LocalLearner):
        def update(self, batch: TokenBatch) -> UpdateReport:
            engine.calls.append("update")
            return super().update(batch)

    learner = NotedLearner(policy, LearnerConfig(total_updates=8))
    await train(replace(run, engine=engine, learner=learner, collect=noted_collect, evaluations=(evaluate,)))
    assert engine.calls == [
        ("load", 0),
        *("collect", "sleep", "update", ("load", 1), "evaluate"),
        *("collect", "sleep", "update", ("load", 2), "evaluate"),
    ]


def test_due_every_so_many_steps_and_never_at_zero() -> None:
    assert [step for step in range(7) if is_due(step, 3)] == [2, 5]
    assert not any(is_due(step, 0) for step in range(7))
