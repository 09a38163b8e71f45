"""The audit of a training run: a second judge, probes of the first one, and the alarm.

It reads finished dialogues and changes nothing: neither rewards nor any random draw of the run.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, TypeVar

import numpy as np

from mica_ray.chat.ledger import DialogueKey, Ledger, dialogue_costs
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.judger import CarefulJudge, Judge
from mica_ray.domains.canaries import ProbeCount, probe
from mica_ray.files import StepLog
from mica_ray.rewards import Rewards
from mica_ray.seeding import derive_seed
from mica_ray.training.audit.alarm import AlarmReading, StepGap, alarm_threshold, read_alarm
from mica_ray.training.audit.config import AuditConfig
from mica_ray.training.audit.gap import (
    DialogueGap,
    choose,
    dialogue_gap,
    judge_again,
    step_gap,
)
from mica_ray.training.audit.metrics import (
    ALARM,
    AUDIT_REWARD,
    CUSUM,
    GAP,
    GAP_Z,
    PROBE_FAILURES,
    THRESHOLD,
    TRAINING_REWARD,
)
from mica_ray.types import Judgement, Trajectory

_LOG = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")

PHASE = "audit"
"""Phase of the ledger while the audit's calls are made."""


class Auditor:
    """Audits the steps of a run. Its state is the log, so a resumed run continues from there.

    Args:
        config: how often, and the alarm.
        training_judge: gets the probes.
        audit_judge: scores sampled dialogues.
        domain: of the dialogues.
        rewards: of the run.
        languages: of the training scenarios.
        num_steps: of the whole run, for the alarm's threshold.
        seed: of the run.
        ledger: counts the calls under the phase "audit".
        log: one row per audited dialogue; its rows of earlier steps are read.
    """

    def __init__(
        self,
        config: AuditConfig,
        *,
        training_judge: Judge,
        audit_judge: Judge,
        domain: Domain,
        rewards: Rewards,
        languages: Collection[str],
        num_steps: int,
        seed: int,
        ledger: Ledger,
        log: StepLog,
    ) -> None:
        self._config, self._domain, self._rewards, self._seed = config, domain, rewards, seed
        self._training_judge, self._audit_judge = CarefulJudge(training_judge), CarefulJudge(audit_judge)
        self._languages, self._ledger, self._log = languages, ledger, log
        self.threshold = alarm_threshold(
            config.alarm, num_audits=-(-num_steps // config.every), num_dialogues=config.sample
        )
        self._gaps = stored_gaps(log)
        self._known_failures: Collection[str] = ()
        reading = self._reading()
        self._is_raised = reading is not None and reading.is_raised

    def stop_reason(self) -> str | None:
        """Return why the run must stop, or None."""
        if not (self._config.stop_on_alarm and self._is_raised):
            return None
        return (
            "The reward-hacking alarm is raised. Compare the judges in the report and in "
            f"{self._log.path}, then set audit.stop_on_alarm=false and --resume."
        )

    async def __call__(self, step: int, trajectories: Sequence[Trajectory]) -> Mapping[str, float]:
        """Audit a step if it is due; return the metrics.

        Never raises because of a judge, and takes no longer than the deadline.
        """
        config, before = self._config, self._ledger.phase
        chosen = self._choose(step, trajectories) if step % config.every == 0 else []
        asked = [asyncio.ensure_future(self._judge_again(step, trajectory)) for trajectory in chosen]
        is_probed = config.probe_every > 0 and step % config.probe_every == 0
        probing = [asyncio.ensure_future(self._probe(step))] if is_probed else []
        self._ledger.phase = PHASE
        try:
            await _finish([*asked, *probing], config.deadline_seconds)
        finally:
            self._ledger.phase = before
        found = {} if not chosen else self._compare(step, chosen, [_finished(task) for task in asked])
        return {**found, **(self._count_probes(step, _finished(probing[0])) if probing else {})}

    def _choose(self, step: int, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
        generator = np.random.default_rng(derive_seed(self._seed, "audit", step))
        return choose(trajectories, self._config.sample, generator=generator)

    async def _judge_again(self, step: int, trajectory: Trajectory) -> tuple[Judgement, ...]:
        name, sample = trajectory.scenario.id, trajectory.sample
        with self._costs_of(DialogueKey(step, name, sample)):
            seed = derive_seed(self._seed, "audit", step, name, sample)
            return await judge_again(self._audit_judge, trajectory, seed=seed)

    async def _probe(self, step: int) -> ProbeCount:
        with self._costs_of(DialogueKey(step, "probes", 0)):
            seed = derive_seed(self._seed, "probe", step)
            return await probe(self._training_judge, self._domain, languages=self._languages, seed=seed)

    @contextmanager
    def _costs_of(self, key: DialogueKey) -> Generator[None]:
        """Write the costs of the calls in this context as one line, also if they are cancelled."""
        try:
            with dialogue_costs(key):
                yield
        finally:
            self._ledger.close(key)

    def _compare(
        self,
        step: int,
        chosen: Sequence[Trajectory],
        answers: Sequence[tuple[Judgement, ...] | None],
    ) -> dict[str, float]:
        """Write the audited dialogues, and return gap and alarm."""
        gaps = [
            None if judgements is None else dialogue_gap(trajectory, judgements, self._rewards)
            for trajectory, judgements in zip(chosen, answers, strict=True)
        ]
        self._log.append(step, map(_row, chosen, answers, gaps))
        counted = [gap for gap in gaps if gap is not None]
        found = {
            "audit/dialogues": float(len(counted)),
            "audit/failed_judgements": float(
                sum(not one.is_valid for judgements in answers for one in judgements or ())
            ),
            "audit/unfinished_dialogues": float(sum(judgements is None for judgements in answers)),
            THRESHOLD: self.threshold,
        }
        this = step_gap(step, counted)
        if this is not None:
            num_turns = sum(gap.num_turns for gap in counted)
            self._gaps = [*self._gaps, this]
            found |= {
                GAP: this.gap,
                "audit/gap_error": this.error,
                TRAINING_REWARD: sum(gap.training for gap in counted) / num_turns,
                AUDIT_REWARD: sum(gap.audit for gap in counted) / num_turns,
            }
        return {name: value for name, value in (found | self._alarm(step)).items() if math.isfinite(value)}

    def _alarm(self, step: int) -> dict[str, float]:
        """Return the alarm after the gaps so far; log it when it begins."""
        reading = self._reading()
        if reading is None:
            return {ALARM: 0.0}
        if reading.is_raised and not self._is_raised:
            last = self._gaps[-1]
            _LOG.warning(
                "Reward-hacking alarm at step %d: the training judge's rewards rise above the audit judge's. "
                "The gap is %.2f per turn, z %.1f, S %.1f, threshold %.1f. Compare both judges' rewards in "
                "%s, and read the newest training dialogues.",
                step, last.gap, reading.z, reading.cusum, self.threshold, self._log.path,
            )  # fmt: skip
        self._is_raised = reading.is_raised
        return {GAP_Z: reading.z, CUSUM: reading.cusum, ALARM: float(reading.is_raised)}

    def _reading(self) -> AlarmReading | None:
        return read_alarm(self._config.alarm, self._gaps, threshold=self.threshold)

    def _count_probes(self, step: int, count: ProbeCount | None) -> dict[str, float]:
        """Count the probes; log those that earn a score when the set changes."""
        if count is None:
            return {"audit/probes": 0.0}
        if count.credited and set(count.credited) != set(self._known_failures):
            _LOG.warning(
                "Step %d: the training judge credits %d of %d probes that deserve nothing: %s. Its scores "
                "can be earned without helping. Use another judge or rubric.",
                step, len(count.credited), count.asked,
                "; ".join(f"{name} ({texts[0]})" for name, texts in count.credited.items()),
            )  # fmt: skip
        self._known_failures = tuple(count.credited)
        return {
            "audit/probes": float(count.asked),
            PROBE_FAILURES: float(len(count.credited)),
            "audit/probes_unanswered": float(count.unanswered),
        }


def stored_gaps(log: StepLog) -> list[StepGap]:
    """Read the gaps of the audited steps from the log; steps without a compared dialogue are left out."""
    found: list[StepGap] = []
    rows = log.rows() if log.path.exists() else iter(())
    for step, members in groupby(rows, key=lambda row: int(row["step"])):
        gaps = [
            DialogueGap(row["training"], row["audit"], row["num_turns"])
            for row in members
            if row["training"] is not None
        ]
        this = step_gap(step, gaps)
        found += [] if this is None else [this]
    return found


def _row(
    trajectory: Trajectory, judgements: Sequence[Judgement] | None, gap: DialogueGap | None
) -> dict[str, object]:
    """Return the row of an audited dialogue; what the audit judge did not score is null."""
    return {
        "scenario": trajectory.scenario.id,
        "group": trajectory.group,
        "sample": trajectory.sample,
        "training": None if gap is None else gap.training,
        "audit": None if gap is None else gap.audit,
        "num_turns": 0 if gap is None else gap.num_turns,
        "deltas": None if judgements is None else [one.delta for one in judgements],
        "errors": [one.error for one in judgements or () if one.error is not None],
    }


async def _finish(tasks: Sequence[asyncio.Future[Any]], seconds: float) -> None:
    """Wait for the tasks; cancel those that take longer, or all if this is cancelled."""
    if not tasks:
        return
    try:
        await asyncio.wait(tasks, timeout=seconds)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _finished(task: asyncio.Future[_Answer]) -> _Answer | None:
    """Return what a task returned; None if it was cancelled."""
    return None if task.cancelled() else task.result()
