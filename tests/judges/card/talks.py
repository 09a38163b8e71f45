"""Recorded dialogues whose judge was `Steady`, and a card about any judge on them, without a command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mica_ray.dialogue.judger import Judge, Judger
from mica_ray.domains.empa import EMPA
from mica_ray.judges.card.asking import Failure, ask_all
from mica_ray.judges.card.conclusion import conclude
from mica_ray.judges.card.findings import Findings, findings
from mica_ray.judges.card.log import JudgementLog
from mica_ray.judges.card.noise import Bootstrap
from mica_ray.judges.card.presentations import (
    CONDITIONS,
    Presentation,
    applicable,
    canaries,
    presentations,
)
from mica_ray.judges.card.record import Card, CardSettings, agreement_between
from mica_ray.judges.card.turns import RecordedTurn, choose_turns, point_levels
from mica_ray.recordings.dialogue_files import read_dialogues
from mica_ray.types import Sampling
from tests.evaluation.recorded_files import Fields, level_fields, write

REPLIES = ("No.", "That sounds very hard.", "You tried for nine years, and now nobody even asks how you are.")
"""Replies of up to 10, up to 40 and more characters: `Steady` finds C progress 0, 1 and 2."""
POINTS = (0.0, 1.0, 3.0)
MESSAGES = (
    "I lost my job today.",
    "My wife does not know.",
    "I feel so ashamed of it.",
    "I sit in the park.",
)


NUM_CANARIES = sum(len(canaries(condition, "en")) for condition in ("canary", "late_canary"))


def talk(case: str, replies: Sequence[int], *, said: str = "") -> Fields:
    """One dialogue of a published run, with these replies, by number."""
    points: list[Fields] = [{"turn": 0, "P_t": [-30, -20, -20], "levels": {}}]
    history: list[Fields] = []
    state = -30.0
    for turn, reply in enumerate(replies):
        state += POINTS[reply]
        levels = level_fields(progress=(reply, 0, 0))
        points.append({"turn": turn + 1, "P_t": [state, -20, -20], "levels": levels})
        history.append({"role": "actor", "content": MESSAGES[turn % len(MESSAGES)] + said})
        history.append({"role": "test_model", "content": REPLIES[reply] + said})
    return {
        "model": "helper-1",
        "script_id": case,
        "termination_reason": "timeout",
        "trajectory": points,
        "history": history,
    }


def talk_file(path: Path, *, num: int = 6, length: int = 6, said: str = "") -> Path:
    """Write `num` dialogues of `length` turns; replies 0, 1, 2 take turns, and the first one differs."""
    dialogues = [
        talk(f"script_{n}", [(n + turn) % 3 for turn in range(length)], said=said) for n in range(num)
    ]
    return write(path, dialogues)


def chosen_turns(path: Path, num: int) -> tuple[RecordedTurn, ...]:
    return choose_turns(read_dialogues(path), EMPA, num_turns=num, seed=0)


def questions(
    turns: Sequence[RecordedTurn], judge: object, *, repeats: int = 2, names: Sequence[str] = ()
) -> tuple[Presentation, ...]:
    has_prompt = not isinstance(judge, Judge)
    conditions = applicable(names or tuple(CONDITIONS), EMPA, "en", has_prompt=has_prompt)
    return presentations(turns, EMPA, conditions, repeats=repeats)


def as_judge(judge: object) -> Judge:
    return judge if isinstance(judge, Judge) else Judger(judge, EMPA, Sampling(max_tokens=1536))  # pyright: ignore


async def measured(
    judge: object,
    folder: Path,
    *,
    num: int = 12,
    repeats: int = 2,
    names: Sequence[str] = (),
    resamples: int = 20,
    said: str = "",
) -> tuple[Findings, tuple[Failure, ...], tuple[RecordedTurn, ...]]:
    """Ask a judge about `num` turns, and return its findings, its failures and the turns."""
    turns = chosen_turns(talk_file(folder / "talks.jsonl", said=said), num)
    asked = questions(turns, judge, repeats=repeats, names=names)
    name = type(judge).__name__
    log = JudgementLog(folder / f"{name}.jsonl", {"judge": name})
    failures = await ask_all(as_judge(judge), log.missing(asked), record=log.record, seed=0, concurrency=1)
    bootstrap = Bootstrap(np.array([turn.case for turn in turns]), resamples=resamples)
    found = findings(
        name,
        turns,
        asked,
        log.answers(asked),
        levels=point_levels(EMPA),
        repeats=repeats,
        bootstrap=bootstrap,
    )
    return found, failures, turns


def card_of(judges: Sequence[Findings], turns: tuple[RecordedTurn, ...], *, repeats: int = 2) -> Card:
    """Return the card of measured judges."""
    bootstrap = Bootstrap(np.array([turn.case for turn in turns]), resamples=20)
    settings = CardSettings("talks.jsonl", "empa", len(turns), 6, repeats, 0.7, 0, len(turns))
    between = agreement_between(judges, turns, bootstrap, point_levels(EMPA))
    return Card(settings, turns, tuple(judges), tuple(map(conclude, judges)), between)
