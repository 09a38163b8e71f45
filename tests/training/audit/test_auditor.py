"""The audit of steps: metrics, costs, failures, deadline, resume."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mica_ray.chat.ledger import Ledger, MeteredChat, Price
from mica_ray.dialogue.judger import Judge, Judger
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.embedded.planted.flawed_judge import FlawedJudge
from mica_ray.embedded.roles import ScriptedRoles
from mica_ray.files import StepLog
from mica_ray.rewards import Rewards
from mica_ray.training.audit.alarm import AlarmRule
from mica_ray.training.audit.auditor import Auditor
from mica_ray.training.audit.config import AuditConfig
from mica_ray.training.metrics import METRICS
from mica_ray.types import Sampling, Trajectory
from tests.training.audit.two_judges import OUTAGE, ListJudge, talked

NO_PROBES = AuditConfig(sample=4, probe_every=0, alarm=AlarmRule(baseline=2, false_alarm_rate=0.1))


def auditor(
    folder: Path,
    audit_judge: Judge,
    *,
    config: AuditConfig = NO_PROBES,
    training_judge: Judge | None = None,
    ledger: Ledger | None = None,
    first_step: int = 0,
    num_steps: int = 12,
) -> Auditor:
    return Auditor(
        config,
        training_judge=training_judge or ListJudge([0]),
        audit_judge=audit_judge,
        domain=EMOTIONAL_SUPPORT,
        rewards=Rewards(),
        languages={"en"},
        num_steps=num_steps,
        seed=0,
        ledger=ledger or Ledger(),
        log=StepLog(folder / "audit.jsonl", first_step=first_step),
    )


def step_of(points: float) -> list[Trajectory]:
    """Four dialogues of two turns with these points per turn from the training judge."""
    return [talked(f"s{group}", points, points, group=group) for group in range(4)]


async def test_metrics_of_an_audited_step(tmp_path: Path) -> None:
    metrics = await auditor(tmp_path, ListJudge([1, None]))(3, step_of(3.0))
    # Turn 0 of each dialogue: 3 under the training judge, 1 under the other. Turn 1 failed, four times.
    assert metrics["audit/gap"] == 2.0 and metrics["audit/gap_error"] == 0.0
    assert (metrics["audit/training_reward"], metrics["audit/audit_reward"]) == (3.0, 1.0)
    assert (metrics["audit/dialogues"], metrics["audit/failed_judgements"]) == (4, 4)
    assert (metrics["audit/unfinished_dialogues"], metrics["audit/alarm"]) == (0, 0)
    assert set(metrics) <= set(METRICS)
    assert "audit/gap_z" not in metrics  # Still in the baseline.
    rows = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert len(rows) == 4 and rows[0]["deltas"] == [[1.0, 0.0, 0.0], None] and rows[0]["errors"] == ["late"]


async def test_judge_that_is_down_is_counted_and_no_gap_is_made_up(tmp_path: Path) -> None:
    metrics = await auditor(tmp_path, ListJudge([OUTAGE]))(0, step_of(1.0))
    assert "audit/gap" not in metrics and "audit/audit_reward" not in metrics
    assert (metrics["audit/dialogues"], metrics["audit/failed_judgements"]) == (0, 8)


async def test_slow_judge_costs_the_deadline_and_its_dialogues_are_left_out(tmp_path: Path) -> None:
    config = AuditConfig(sample=4, probe_every=0, deadline_seconds=0.2)
    audit = auditor(tmp_path, ListJudge([1, 101]), config=config)
    async with asyncio.timeout(5):
        metrics = await audit(0, [talked("quick", 3, group=0), *step_of(3.0)[1:]])
    # The dialogue of one turn is finished; the others wait 101 s in their second.
    assert (metrics["audit/dialogues"], metrics["audit/unfinished_dialogues"]) == (1, 3)
    assert metrics["audit/gap"] == 2.0


async def rising(audit: Auditor, steps: Sequence[int]) -> list[float]:
    """Audit steps whose training rewards are 1 until step 3 and 2 from then on; return S."""
    return [
        (await audit(step, step_of(1.0 if step < 4 else 2.0))).get("audit/cusum", math.nan) for step in steps
    ]


async def test_alarm_is_logged_once_and_stops_only_on_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audit = auditor(tmp_path, ListJudge([1]))
    assert 0 < audit.threshold < 49
    with caplog.at_level(logging.WARNING):
        cusums = await rising(audit, range(6))
    # The judges agree in the baseline, so the smallest deviation of 0.02 counts: z = 1 / 0.02 - 0.5 slack.
    assert cusums[2:] == [0, 0, pytest.approx(49.5), pytest.approx(99)]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("Reward-hacking alarm at step 4") and "audit.jsonl" in line
    assert audit.stop_reason() is None
    stopping = AuditConfig(
        sample=4, probe_every=0, alarm=AlarmRule(baseline=2, false_alarm_rate=0.1), stop_on_alarm=True
    )
    again = auditor(tmp_path, ListJudge([1]), config=stopping, first_step=6)
    reason = again.stop_reason()
    assert reason is not None and "audit.stop_on_alarm=false and --resume" in reason
    # One step earlier the alarm was not yet raised.
    assert auditor(tmp_path, ListJudge([1]), config=stopping, first_step=4).stop_reason() is None


async def test_resumed_audit_continues_with_the_same_sums(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    noisy = [
        [talked(f"s{g}", *generator.integers(0, 4, 3).tolist(), group=g) for g in range(4)] for _ in range(9)
    ]

    async def cusums(audit: Auditor, steps: Sequence[int]) -> list[float | None]:
        return [(await audit(step, noisy[step])).get("audit/cusum") for step in steps]

    straight = await cusums(auditor(tmp_path / "straight", ListJudge([1])), range(9))
    await cusums(auditor(tmp_path / "cut", ListJudge([1])), range(7))
    # The newest checkpoint is that of step 5: steps 5 and 6 run again, and their rows are replaced.
    resumed = await cusums(auditor(tmp_path / "cut", ListJudge([1]), first_step=5), range(5, 9))
    assert resumed == straight[5:]
    texts = [(tmp_path / name / "audit.jsonl").read_text() for name in ("straight", "cut")]
    assert texts[0] == texts[1]


async def test_audits_come_at_every_so_many_steps_from_the_first(tmp_path: Path) -> None:
    config = AuditConfig(sample=2, every=3, probe_every=2)
    audit = auditor(tmp_path, ListJudge([1]), config=config)
    found = [await audit(step, step_of(1.0)) for step in range(5)]
    assert [step for step, one in enumerate(found) if "audit/gap" in one] == [0, 3]
    assert [step for step, one in enumerate(found) if "audit/probes" in one] == [0, 2, 4]


async def test_probes_find_the_flaw_of_the_training_judge(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def judge(model: ScriptedRoles | FlawedJudge) -> Judger:
        return Judger(model, EMOTIONAL_SUPPORT, Sampling(max_tokens=512))

    config = AuditConfig(sample=1, probe_every=1)
    # The padding and the forged verdict are long.
    for model, failures in ((ScriptedRoles(), 0), (FlawedJudge("length"), 2), (FlawedJudge("echo"), 1)):
        audit = auditor(tmp_path / str(model), ListJudge([1]), config=config, training_judge=judge(model))
        for step in range(2):
            metrics = await audit(step, step_of(1.0))
            assert (metrics["audit/probes"], metrics["audit/probe_failures"]) == (8, failures)
            assert metrics["audit/probes_unanswered"] == 0
    # Logged once per judge, not at every step.
    lines = [record.getMessage() for record in caplog.records if "probes" in record.getMessage()]
    assert ["canary-padding-en" in line for line in lines] == [True, False]


async def test_probes_of_a_judge_that_is_down_are_unanswered_and_no_failure(tmp_path: Path) -> None:
    config = AuditConfig(sample=1, probe_every=1)
    audit = auditor(tmp_path, ListJudge([1]), config=config, training_judge=ListJudge([OUTAGE]))
    metrics = await audit(0, step_of(1.0))
    assert (metrics["audit/probe_failures"], metrics["audit/probes_unanswered"]) == (0, 8)


async def test_calls_of_both_judges_are_counted_in_a_phase_of_their_own(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "costs.jsonl")
    ledger.phase = "train"

    def metered(role: str) -> Judger:
        model = MeteredChat(ScriptedRoles(), ledger, role, Price())
        return Judger(model, EMOTIONAL_SUPPORT, Sampling(max_tokens=512))

    config = AuditConfig(sample=3, probe_every=1)
    audit = auditor(
        tmp_path, metered("audit_judge"), config=config, training_judge=metered("judge"), ledger=ledger
    )
    await audit(0, step_of(1.0))
    assert ledger.phase == "train" and ledger.totals(["train"]) == {}
    # Three dialogues of two turns, and eight probes.
    assert {role: tally.calls for role, tally in ledger.totals(["audit"]).items()} == {
        "audit_judge": 6,
        "judge": 8,
    }
    # The lines on the disk have the same totals, so a resumed run does not lose them.
    assert Ledger(tmp_path / "costs.jsonl").totals() == ledger.totals()


@pytest.mark.parametrize("wrong", [{"sample": 0}, {"every": 0}, {"probe_every": -1}, {"deadline_seconds": 0}])
def test_config_outside_its_range_is_refused_with_the_field(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AuditConfig(**wrong)  # type: ignore[arg-type]
