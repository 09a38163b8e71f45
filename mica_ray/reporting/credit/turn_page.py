"""`mica report turns RUN`: one page with every dialogue and the credit of its turns.

The page contains the dialogues compressed, one piece per group; templates/turns.js draws the selected one.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import groupby
from typing import Any

import numpy as np

from mica_ray.config.references import ConfigError
from mica_ray.evaluation.tables import CONTAMINATED
from mica_ray.reporting.credit.turn_credit import (
    RULES_TEXT,
    DialogueCredit,
    credit_dialogues,
    estimator_of,
    most_instructive,
)
from mica_ray.reporting.drawing.canvas import AXIS_COLOURS
from mica_ray.reporting.drawing.page import Section, page, rendered, script_json
from mica_ray.runs.stored_run import RunFiles
from mica_ray.types import AXES

MOST_BYTES = 14_000_000
"""Maximum size of the compressed dialogues in a page, so that a browser opens it fast."""
_DIGITS = 4

Group = tuple[DialogueCredit, ...]


def turn_report(run: RunFiles, *, dialogue: str | None = None, most_bytes: int = MOST_BYTES) -> str:
    """Return the page as HTML.

    Args:
        run: a run with training dialogues.
        dialogue: id (STEP-GROUP-DIALOGUE) of a dialogue to show with its group; None for all dialogues.
        most_bytes: maximum size of the compressed dialogues. Beyond it, groups are left out, starting with
            those on which MICA and GRPO agree most; the page states their number.

    Raises:
        ConfigError: the run has no dialogue, or none with this id.
    """
    credited = credit_dialogues(run)
    if not credited:
        raise ConfigError(f"{run.name}: dialogues.jsonl contains no dialogue. Train at least one step first.")
    if dialogue is not None:
        credited = _group_of(credited, dialogue, run.name)
    picks = most_instructive(credited)
    groups = [tuple(members) for _, members in groupby(credited, key=_place)]
    kept, packed = _packed(groups, {_place(pick.chosen) for pick in picks}, most_bytes)
    shown = [one for group in kept for one in group]
    content = {
        "entries": [_entry(one, number) for number, group in enumerate(kept) for one in group],
        "opened": dialogue or (picks[0].chosen.dialogue.id if picks else shown[0].dialogue.id),
        "axes": [{"name": axis, "colour": AXIS_COLOURS[axis]} for axis in AXES],
    }
    values = {
        "terms": estimator_of(run)[1],
        "rules": RULES_TEXT,
        "picks": [_pick(pick.rule, pick.chosen) for pick in picks if pick.chosen in shown],
        "left_out": len(credited) - len(shown),
        "content": script_json(content),
        "packed": script_json(packed),
    }
    sections = [
        Section("How to read this page", rendered("turns_legend.html", values)),
        Section("Dialogues of special interest", rendered("turns_picks.html", values)),
        Section("Dialogues", rendered("turns.html", values)),
    ]
    return page(f"Turn credit of {run.name}", sections, lead=_lead(run, len(credited)), scripts=["turns.js"])


def _lead(run: RunFiles, num_dialogues: int) -> str:
    text = f"{num_dialogues:,} training dialogues, sorted by disagreement with GRPO."
    if run.summary is None:
        text += f" The run is unfinished: {run.num_steps} of {run.num_planned or 'unknown'} steps."
    return f"{text} {run.name} is {CONTAMINATED}." if run.is_contaminated else text


def _group_of(credited: Sequence[DialogueCredit], wanted: str, name: str) -> Group:
    by_id = {one.dialogue.id: one for one in credited}
    if wanted not in by_id:
        close = ", ".join(get_close_matches(wanted, by_id, n=3, cutoff=0.0))
        raise ConfigError(
            f"--dialogue {wanted}: {name} has no dialogue with this id (STEP-GROUP-DIALOGUE). Similar: "
            f"{close}."
        )
    return tuple(one for one in credited if _place(one) == _place(by_id[wanted]))


def _packed(
    groups: Sequence[Group], first: set[tuple[int | None, int | None]], most_bytes: int
) -> tuple[list[Group], list[str]]:
    """Compress groups until the page is full, `first` ones first; return them in the order of the run."""

    def urgency(number: int) -> tuple[bool, float]:
        group = groups[number]
        return _place(group[0]) not in first, -max(one.disagreement for one in group)

    pieces: dict[int, str] = {}
    size = 0
    for number in sorted(range(len(groups)), key=urgency):
        text = json.dumps([_record(one) for one in groups[number]], ensure_ascii=False, allow_nan=False)
        # Without a time stamp, so that equal runs give equal pages.
        piece = base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
        if pieces and size + len(piece) > most_bytes:
            break
        pieces[number] = piece
        size += len(piece)
    ordered = sorted(pieces)
    return [groups[number] for number in ordered], [pieces[number] for number in ordered]


def _entry(one: DialogueCredit, piece: int) -> dict[str, Any]:
    """Return the list entry of a dialogue, and the number of its compressed piece."""
    return {
        "id": one.dialogue.id,
        "piece": piece,
        "step": one.dialogue.step,
        "scenario": one.dialogue.scenario,
        "stop": one.dialogue.ending,
        "turns": one.dialogue.num_turns,
        "disagreement": round(one.disagreement, _DIGITS),
        "flips": one.num_flips,
        "gain": round(one.gain, _DIGITS),
    }


def _record(one: DialogueCredit) -> dict[str, Any]:
    """Return everything that the page shows of a dialogue."""
    dialogue = one.dialogue
    columns = {
        "reward": one.dialogue.rewards,
        "return": one.dialogue.returns,
        "turnTerm": one.turn_term,
        "groupTerm": one.group_term,
        "mica": one.mica,
        "grpo": one.grpo,
        "given": one.dialogue.advantages,
        "weight": one.token_weight,
    }
    return {
        "id": one.dialogue.id,
        "scenario": dialogue.scenario,
        "category": dialogue.category,
        "stop": dialogue.ending,
        "error": dialogue.line.fields.get("error"),
        "states": _listed(dialogue.states),
        "distances": _listed(dialogue.distances),
        "turns": [
            {
                "index": turn["index"],
                "user": str(turn.get("user", "")),
                "reply": str(turn.get("reply", "")),
                "guidance": turn.get("guidance"),
                "status": turn.get("status"),
                "judgeError": turn.get("judge_error"),
                "progress": turn.get("progress"),
                "regress": turn.get("regress"),
                "evidence": {key: text for key, text in (turn.get("evidence") or {}).items() if text},
                "tokens": turn.get("reply_tokens"),
                **{name: _listed(column)[place] for name, column in columns.items()},
            }
            for place, turn in enumerate(dialogue.turns)
        ],
    }


def _pick(rule: str, one: DialogueCredit) -> dict[str, str]:
    return {
        "id": one.dialogue.id,
        "rule": rule,
        "text": f"{one.dialogue.scenario}, step {one.dialogue.step}: disagreement "
        f"{one.disagreement:.2f}, {one.num_flips} flips, distance closed {one.gain:+.1f}",
    }


def _place(one: DialogueCredit) -> tuple[int | None, int | None]:
    return one.dialogue.step, one.dialogue.group


def _listed(values: np.ndarray) -> list[Any]:
    """Return an array as JSON values: rounded, null for NaN and infinity."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(item) for item in value]
        return round(value, _DIGITS) if math.isfinite(value) else None

    return plain(values.tolist())
