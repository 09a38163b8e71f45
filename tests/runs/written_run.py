"""Run folders written by hand, with a few dialogues whose credit can be checked on paper."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mica_ray.config import RunConfig

JUDGED = {
    "progress": [0, 1, 0], "regress": [0, 0, -1], "delta": [0.0, 2.0, -1.0],
    "status": "ok", "judge_error": None,
    "evidence": {"A_progress_evidence": "named the feeling", "C_progress_evidence": ""},
}  # fmt: skip


def turn(index: int, reward: float | None, *, reply: str = "I hear you.", **changes: Any) -> dict[str, Any]:
    """Return one turn; `changes` overrides fields such as return, advantage and state."""
    lost = {"progress": None, "regress": None, "delta": None, "status": "invalid", "judge_error": "no JSON"}
    return {
        "index": index, "user": f"user speaks {index}", "reply": reply, "guidance": None,
        "state": [-3.0, -2.0, -1.0], **JUDGED, **({} if reward is not None else lost),
        "reward": reward, "return": reward, "advantage": reward,
        "policy_version": 0, "reply_tokens": 4, "finish_reason": "stop",
    } | changes  # fmt: skip


def dialogue(step: int, group: int, sample: int, turns: Sequence[Any], **changes: Any) -> dict[str, Any]:
    """Return one line of dialogues.jsonl."""
    return {
        "step": step, "scenario": f"scenario-{group}", "category": "work", "group": group, "sample": sample,
        "stop": "limit", "error": None, "initial_state": [-5.0, -2.0, -1.0], "turns": list(turns),
    } | changes  # fmt: skip


def of_rewards(step: int, group: int, sample: int, rewards: Sequence[float | None]) -> dict[str, Any]:
    return dialogue(step, group, sample, [turn(index, reward) for index, reward in enumerate(rewards)])


# Two groups of two; in the first, dialogue 0 loses at first and gains more later.
DIALOGUES = (
    of_rewards(0, 0, 0, [-1.0, 3.0]), of_rewards(0, 0, 1, [0.0, 0.0]),
    of_rewards(1, 0, 0, [0.0, 1.0]), of_rewards(1, 0, 1, [0.0, None]),
)  # fmt: skip
METRICS = (
    {"step": 0, "eval_epm_q": 20.0, "eval_pass_fraction": 0.0},
    {"step": 0, "reward_mean": 0.5, "grad_norm": 0.3, "kl": 0.0, "logprob_difference_max": 1e-6,
     "weight_version": 1.0, "judge_ok": 3.0, "judge_invalid": 0.0},
    {"step": 1, "reward_mean": None, "grad_norm": 0.2, "kl": 0.1, "logprob_difference_max": 2e-6,
     "weight_version": 2.0, "judge_ok": 3.0, "judge_invalid": 1.0},
)  # fmt: skip
AUDITED = (
    {"step": 2, "audit/training_reward": 1.0, "audit/audit_reward": 0.9, "audit/gap": 0.1,
     "audit/threshold": 9.0, "audit/alarm": 0.0, "audit/probe_failures": 0.0},
    {"step": 3, "audit/training_reward": 2.0, "audit/audit_reward": 0.5, "audit/gap": 1.5, "audit/cusum": 9.5,
     "audit/threshold": 9.0, "audit/alarm": 1.0},
    {"step": 4, "audit/training_reward": 2.0, "audit/audit_reward": 0.4, "audit/gap": 1.6, "audit/cusum": 20,
     "audit/threshold": 9.0, "audit/alarm": 1.0, "audit/probe_failures": 2.0},
)  # fmt: skip
"""Metrics of a run with an audit."""
INTERVAL = {"estimate": 20.0, "low": 10.0, "high": 30.0}
PART = {"epm_q": INTERVAL, "pass_fraction": INTERVAL, "idr": INTERVAL}
SUMMARY = {
    "before": PART, "after": PART, "difference": PART | {"idr": dict.fromkeys(INTERVAL)},
    "seconds": {"train": 90.0}, "usd_per_epm_q_point": 0.25, "contaminated": False,
}  # fmt: skip
COST = {
    "phase": "train", "step": 0, "scenario": "scenario-0", "sample": 0,
    "roles": {"judge": {"calls": 7, "prompt_tokens": 1200, "usd": 0.5}},
}  # fmt: skip


def write_lines(path: Path, rows: Sequence[Any]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_run(
    folder: Path,
    config: RunConfig | None = None,
    *,
    dialogues: Sequence[Any] = DIALOGUES,
    is_finished: bool = True,
    is_audited: bool = False,
) -> Path:
    folder.mkdir(parents=True)
    (config or RunConfig()).write(folder / "config.json")
    write_lines(folder / "metrics.jsonl", METRICS + (AUDITED if is_audited else ()))
    write_lines(folder / "dialogues.jsonl", dialogues)
    write_lines(folder / "costs.jsonl", [COST])
    write_lines(folder / "environment.jsonl", [{"step": 0, "python": "3.11.9", "version.torch": "2.0"}])
    if is_finished:
        (folder / "summary.json").write_text(json.dumps(SUMMARY))
    return folder
