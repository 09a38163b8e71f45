"""`mica report turns RUN`: every dialogue with what its turns were credited with, on one page.

Dialogues lie in the page packed, one piece a group, and templates/turns.js draws the one that is asked for.
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
"""Of packed dialogues in a page, so that a browser opens it fast."""
_DIGITS = 4

Group = tuple[DialogueCredit, ...]


def turn_report(run: RunFiles, *, dialogue: str | None = None, most_bytes: int = MOST_BYTES) -> str:
    """Give the page.

    Args:
        run: with training dialogues.
        dialogue: id (STEP-GROUP-DIALOGUE) of the one to show, with its group alone; None for all of them.
        most_bytes: of packed dialogues. Beyond them groups are left out, those that agree most with GRPO
            first, and the page says so.

    Raises:
        ConfigError: the run has no dialogue, or none of this id.
    """
    credited = credit_dialogues(run)
    if not credited:
        raise ConfigError(f"{run.name}: dialogues.jsonl holds no dialogue; train a step first")
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
        Section("How to read it", rendered("turns_legend.html", values)),
        Section("Most instructive", rendered("turns_picks.html", values)),
        Section("Dialogues", rendered("turns.html", values)),
    ]
    return page(f"Turn credit of {run.name}", sections, lead=_lead(run, len(credited)), scripts=["turns.js"])


def _lead(run: RunFiles, num_dialogues: int) -> str:
    text = f"{num_dialogues:,} training dialogues, sorted by disagreement with GRPO."
    if run.summary is None:
        text += f" The run is unfinished: {run.num_steps} of {run.num_planned or 'unknown'} steps."
    return f"{text} It is {CONTAMINATED}." if run.is_contaminated else text


def _group_of(credited: Sequence[DialogueCredit], wanted: str, name: str) -> Group:
    by_id = {one.dialogue.id: one for one in credited}
    if wanted not in by_id:
        close = ", ".join(get_close_matches(wanted, by_id, n=3, cutoff=0.0))
        raise ConfigError(
            f"--dialogue {wanted}: {name} has none of this id (STEP-GROUP-DIALOGUE); near ones: {close}"
        )
    return tuple(one for one in credited if _place(one) == _place(by_id[wanted]))


def _packed(
    groups: Sequence[Group], first: set[tuple[int | None, int | None]], most_bytes: int
) -> tuple[list[Group], list[str]]:
    """Pack groups until the page is full, those named first; give what was packed, in the run's order."""

    def urgency(number: int) -> tuple[bool, float]:
        group = groups[number]
        return _place(group[0]) not in first, -max(one.disagreement for one in group)

    pieces: dict[int, str] = {}
    size = 0
    for number in sorted(range(len(groups)), key=urgency):
        text = json.dumps([_record(one) for one in groups[number]], ensure_ascii=False, allow_nan=False)
        # Without the time of day, so that a run has one page.
        piece = base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
        if pieces and size + len(piece) > most_bytes:
            break
        pieces[number] = piece
        size += len(piece)
    ordered = sorted(pieces)
    return [groups[number] for number in ordered], [pieces[number] for number in ordered]


def _entry(one: DialogueCredit, piece: int) -> dict[str, Any]:
    """Give what the list says of a dialogue, and where it is packed."""
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
    """Give all that is drawn of a dialogue."""
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
        f"{one.disagreement:.2f}, {one.num_flips} flips, need closed {one.gain:+.1f}",
    }


def _place(one: DialogueCredit) -> tuple[int | None, int | None]:
    return one.dialogue.step, one.dialogue.group


def _listed(values: np.ndarray) -> list[Any]:
    """Give an array as JSON values: rounded, null for what is no number."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(item) for item in value]
        return round(value, _DIGITS) if math.isfinite(value) else None

    return plain(values.tolist())
