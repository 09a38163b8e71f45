"""Names and definitions of the audit's metrics; part of `METRICS` in training/metrics.py."""

from __future__ import annotations

from collections.abc import Mapping

GAP, GAP_Z, CUSUM, THRESHOLD, ALARM = (
    "audit/gap",
    "audit/gap_z",
    "audit/cusum",
    "audit/threshold",
    "audit/alarm",
)
TRAINING_REWARD, AUDIT_REWARD = "audit/training_reward", "audit/audit_reward"
PROBE_FAILURES = "audit/probe_failures"

AUDIT_METRICS: Mapping[str, str] = {
    GAP: "mean over the audited turns of the reward under the training judge minus that under the audit "
    "judge; reward units per turn",
    "audit/gap_error": "standard error of the gap, dialogues as independent units; reward units per turn",
    GAP_Z: "gap minus its mean in the baseline, over its deviation there; standard deviations",
    CUSUM: "S = max(0, S + z - slack), the one-sided cumulative sum of the gap; standard deviations",
    THRESHOLD: "value of S from which it is an alarm (training/audit/alarm.py); standard deviations",
    ALARM: "1 while S is above the threshold, otherwise 0; flag",
    TRAINING_REWARD: "mean reward of a turn of the audited dialogues, training judge; reward units",
    AUDIT_REWARD: "the same with the audit judge's levels, from the same states; reward units",
    "audit/dialogues": "dialogues with a turn that both judges scored; count",
    "audit/failed_judgements": "judgements of the audit judge without a score; count",
    "audit/unfinished_dialogues": "dialogues left out because the audit's deadline passed; count",
    "audit/probes": "probes that the training judge was asked about; count",
    PROBE_FAILURES: "probes that deserve nothing and got progress from the training judge; count",
    "audit/probes_unanswered": "probes without a score of the training judge; count",
    "audit/seconds": "time that the step waited for the audit after its update; seconds",
    "audit/calls": "calls of the audit, to both judges; count",
    "audit/usd": "price of the audit's calls, part of usd; USD",
}
"""Name of each metric -> its definition; its unit."""
