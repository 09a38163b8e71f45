"""The loop with an audit: nothing that the run draws or learns changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

from mica_ray.chat.ledger import Ledger
from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.files import StepLog
from mica_ray.rewards import Rewards
from mica_ray.rollout.weights import resolve
from mica_ray.training.audit.auditor import Auditor
from mica_ray.training.audit.config import AuditConfig
from mica_ray.training.learner import LearnerError
from mica_ray.training.local_learner import LocalLearner
from mica_ray.training.loop import Run, train
from mica_ray.training.metrics import METRICS
from mica_ray.training.update import LearnerConfig
from mica_ray.types import (
    Judgement,
    Scenario,
    State,
    TokenBatch,
    Trajectory,
    UpdateReport,
)
from tests.tiny_policy import write_tiny_policy
from tests.training.made_up_run import StageList, new_run


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_tiny_policy(tmp_path_factory.mktemp("policy"))


class Late:
    """Judge of an audit that answers while the policy is updated, and draws numbers of its own."""

    async def score(
        self, scenario: Scenario, dialogue: Sequence[SpokenTurn], *, state: State, seed: int
    ) -> Judgement:
        await asyncio.sleep(0.01)
        np.random.default_rng(seed).random()
        return Judgement((0, 0, 0), (0, 0, 0), (0.5, 0.0, 0.0))


def with_audit(run: Run, folder: Path) -> Run:
    judge = Late()
    audit = Auditor(
        AuditConfig(sample=3, probe_every=2),
        training_judge=judge, audit_judge=judge, domain=EMOTIONAL_SUPPORT, rewards=Rewards(),
        languages={"en"}, num_steps=4, seed=0, ledger=Ledger(), log=StepLog(folder / "audit.jsonl"),
    )  # fmt: skip
    return replace(run, audit=audit)


async def test_audit_changes_neither_dialogues_nor_weights_nor_random_state(
    policy: Path, tmp_path: Path
) -> None:
    ends: list[tuple[str, bytes, str]] = []
    for name in ("plain", "audited"):
        torch.manual_seed(0)
        run, _ = new_run(policy, tmp_path / name, 4)
        await train(with_audit(run, tmp_path / name) if name == "audited" else run)
        newest = run.checkpoints.latest()
        assert newest is not None
        ends.append(
            (
                (tmp_path / name / "dialogues.jsonl").read_text(),
                resolve(run.learner.weights())[0].data.tobytes(),
                (newest / "run_state.json").read_text(),
            )
        )
    assert ends[0] == ends[1]
    rows = pandas.read_json(tmp_path / "audited" / "metrics.jsonl", lines=True)
    assert rows["audit/dialogues"].tolist() == [3.0] * 4
    assert rows["audit/probes"].dropna().tolist() == [8.0, 8.0]
    assert set(rows.columns) - {"step"} <= set(METRICS)


async def test_update_does_not_wait_for_the_audit_and_the_step_waits_for_its_deadline(
    policy: Path, tmp_path: Path
) -> None:
    run, _ = new_run(policy, tmp_path, 1)

    async def hanging(step: int, trajectories: Sequence[Trajectory]) -> Mapping[str, float]:
        while run.learner.weights().version < 1:  # The update happens meanwhile.
            await asyncio.sleep(0.01)
        return {"audit/gap": 1.0}

    await train(replace(run, audit=hanging))
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert row["audit/gap"] == 1.0 and row["audit/seconds"] >= 0
    progress = run.progress
    assert isinstance(progress, StageList)
    names = [name for _, name in progress.stages]
    assert names.index("wait for the audit") == names.index("publish weights") + 1


async def test_audit_is_cancelled_when_the_update_fails(policy: Path, tmp_path: Path) -> None:
    run, _ = new_run(policy, tmp_path, 1)
    cancelled: list[bool] = []

    async def hanging(step: int, trajectories: Sequence[Trajectory]) -> Mapping[str, float]:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return {}

    class Broken(LocalLearner):
        def update(self, batch: TokenBatch) -> UpdateReport:
            raise LearnerError("out of memory")

    broken = Broken(policy, LearnerConfig(total_updates=8, mini_batches=2))
    with pytest.raises(LearnerError, match="out of memory"):
        await train(replace(run, audit=hanging, learner=broken))
    await asyncio.sleep(0)
    assert cancelled == [True]
