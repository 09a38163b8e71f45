"""Rows of the tables in a run report: failures, differences of configs, environments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mica_ray.runs.provenance import flat_values
from mica_ray.runs.stored_run import RunFiles
from mica_ray.types import ROLES, Status

MOST_REASONS = 12
"""Reasons listed; the others are only counted."""
_LONGEST_REASON = 160
_ABSENT = "–"
_WHERE = ("out",)
"""Keys that name the location of a run, not its settings."""


def failure_rows(runs: Sequence[RunFiles]) -> list[list[str]]:
    """Return one row per kind of failure that the runs record, with the count of each run."""
    counted: dict[str, list[float | None]] = {
        "training dialogues": [float(len(run.dialogues)) for run in runs],
        "training dialogues failed": [float(sum(one.is_failed for one in run.dialogues)) for run in runs],
        "replies": [float(sum(one.num_turns for one in run.dialogues)) for run in runs],
        "replies cut at max_tokens": [_num_cut(run) for run in runs],
    }
    for role in ROLES:
        for status in Status:
            counted[f"answers of the {role}: {status.replace('_', ' ')}"] = [
                run.total(f"{role}_{status}") for run in runs
            ]
    counted |= {
        "failed decisions of the director": [run.total("director_failures") for run in runs],
        "restarts of the learner's workers": [_last(run, "worker_restarts") for run in runs],
        "evaluation dialogues failed": [run.total("eval_failed_dialogues") for run in runs],
        "evaluation judgements failed": [run.total("eval_failed_judgements") for run in runs],
    }
    return [
        [name, *(_ABSENT if value is None else f"{value:,.0f}" for value in values)]
        for name, values in counted.items()
        if any(value is not None for value in values)
    ]


def failure_reasons(runs: Sequence[RunFiles]) -> list[list[str]]:
    """Return the reasons of failed dialogues and judgements by frequency, counted by run."""
    counts = [_reasons(run) for run in runs]
    ordered = [reason for reason, _ in sum(counts, Counter[str]()).most_common()]
    rows = [[reason, *(f"{count[reason]:,}" for count in counts)] for reason in ordered[:MOST_REASONS]]
    if rest := ordered[MOST_REASONS:]:
        others = [sum(count[reason] for reason in rest) for count in counts]
        rows.append([f"{len(rest)} other reasons", *(f"{other:,}" for other in others)])
    return rows


def config_rows(configs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the keys in which stored configs differ, with their values; a dash for a missing key."""
    flat = [flat_values(config) for config in configs]
    keys = dict.fromkeys(key for config in flat for key in config if key not in _WHERE)
    rows = [[key, *(config.get(key, _ABSENT) for config in flat)] for key in keys]
    return [row for row in rows if len(set(row[1:])) > 1]


def environment_rows(starts: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the environment of each start, one row per recorded item."""
    keys = dict.fromkeys(key for start in starts for key in start if key != "step")
    return [
        [key.removeprefix("version."), *(str(start.get(key, _ABSENT)) for start in starts)] for key in keys
    ]


def _reasons(run: RunFiles) -> Counter[str]:
    found = Counter[str]()
    for dialogue in run.dialogues:
        if dialogue.is_failed:
            found[_short(f"dialogue: {dialogue.line.fields.get('error') or 'no reason given'}")] += 1
        for turn in dialogue.turns:
            if turn.get("delta") is None:
                reason = turn.get("judge_error") or turn.get("status") or "no reason given"
                found[_short(f"judgement: {reason}")] += 1
    return found


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_REASON else f"{line[: _LONGEST_REASON - 1]}…"


def _num_cut(run: RunFiles) -> float:
    turns = (turn for one in run.dialogues for turn in one.turns)
    return float(sum(turn.get("finish_reason") == "length" for turn in turns))


def _last(run: RunFiles, metric: str) -> float | None:
    values = run.series(metric)[1]
    return values[-1] if values else None
