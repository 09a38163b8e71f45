"""Recorded SAGE dialogues: an emotion value at every user message, and the benchmark's score of them.

SAGE is arXiv 2505.02847. The world in which such dialogues are played is domains/sage.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mica_ray.domains.sage import EMOTION, GIVE_UP_BELOW
from mica_ray.recordings.cases import RecordedCase
from mica_ray.recordings.lines import Line, number_of, shown
from mica_ray.statistics import Interval, bootstrap_mean, wilson

TOP = EMOTION.top


@dataclass(frozen=True, slots=True)
class RecordedEmotion:
    """One recorded dialogue as emotion values."""

    case: str
    model: str
    """Empty when the record names none."""
    line: Line
    emotions: np.ndarray
    """[T+1], 0..100, the opening's first."""
    final: float
    """As the record states it."""
    task: str
    """What the user hopes for, as the profile says; empty when the record does not."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EmotionScore:
    """What one model's recorded dialogues came to. Intervals are 95 % over dialogues."""

    final_emotion: Interval
    """The benchmark's score: mean final emotion, 0 to 100; bootstrap."""
    successes: int
    """Dialogues that ended at 100."""
    failures: int
    """Dialogues that ended below 10."""
    success_fraction: Interval
    """Wilson."""
    failure_fraction: Interval
    """Wilson."""
    change_per_turn: Interval
    """Mean over dialogues of the mean change of a rated turn, points; bootstrap."""
    num_dialogues: int
    num_turns: float
    """Mean rated turns of a dialogue."""
    by_task: Mapping[str, Interval]
    """Mean final emotion by what the user hopes for."""
    rise_auc: float
    """How well the emotion before a turn alone tells whether it rises (`rise_auc_of_previous`)."""
    notes: tuple[str, ...]


def read_emotion_case(line: Line) -> RecordedEmotion:
    """Read one SAGE dialogue: history (messages, the user's with emotion-point), emo_point, id, task.

    A user message without a number there is a turn that was not rated, and is passed over.

    Raises:
        RecordingError: no message has an emotion value.
    """
    case = line.text("id", "case") or f"line {line.number}"
    history = line.fields["history"]
    assert isinstance(history, list), "the format was told by it"
    emotions: list[float] = []
    notes: list[str] = []
    for number, message in enumerate(history):
        if not isinstance(message, dict):
            raise line.error(f"field 'history': entry {number} must be an object; got {shown(message)}")
        if message.get("role") != "user":
            continue
        value = number_of(message.get("emotion-point"))
        if value is None or not 0 <= value <= TOP:
            given = shown(message.get("emotion-point"))
            notes.append(f"{case}, message {number}: emotion-point {given} is none of 0 to 100: passed over")
            continue
        emotions.append(value)
    if not emotions:
        raise line.error("field 'history': no user message has an 'emotion-point' of 0 to 100")
    final = number_of(line.fields.get("emo_point"))
    if final is not None and final != emotions[-1]:
        notes.append(f"{case}: emo_point {final:g} is not the last message's {emotions[-1]:g}: it counts")
    return RecordedEmotion(
        case=case,
        model=line.text("model"),
        line=line,
        emotions=np.array(emotions),
        final=emotions[-1] if final is None else final,
        task=line.text("task"),
        notes=tuple(notes),
    )


def emotions_of(case: RecordedCase) -> RecordedEmotion:
    """Read one of our own dialogues in the SAGE world, whose state holds the emotion (domains/sage.py)."""
    emotions = EMOTION.top + case.states[np.concatenate([[True], ~case.lost]), 1]
    return RecordedEmotion(case.case, case.model, case.line, emotions, float(emotions[-1]), case.category)


def score_emotions(records: Sequence[RecordedEmotion], *, seed: int) -> EmotionScore:
    """Score the recorded dialogues of one model as the benchmark does.

        score = mean final emotion; success: it is 100; failure: it is below 10        SAGE leaderboard

    Args:
        records: of one model.
        seed: of the bootstrap.
    """
    finals = np.array([record.final for record in records])
    changes = [float(np.diff(record.emotions).mean()) for record in records if len(record.emotions) > 1]
    successes, failures = int((finals >= TOP).sum()), int((finals < GIVE_UP_BELOW).sum())
    tasks = sorted({record.task for record in records if record.task})
    return EmotionScore(
        final_emotion=bootstrap_mean(finals, seed=seed),
        successes=successes,
        failures=failures,
        success_fraction=wilson(successes, len(records)),
        failure_fraction=wilson(failures, len(records)),
        change_per_turn=bootstrap_mean(changes, seed=seed),
        num_dialogues=len(records),
        num_turns=float(np.mean([len(record.emotions) - 1 for record in records])),
        by_task={
            task: bootstrap_mean([record.final for record in records if record.task == task], seed=seed)
            for task in tasks
        },
        rise_auc=rise_auc_of_previous([record.emotions for record in records]),
        notes=tuple(note for record in records for note in record.notes),
    )


def rise_auc_of_previous(paths: Sequence[np.ndarray]) -> float:
    """Give the AUC with which the emotion before a turn predicts that the turn raises it.

        AUC = P(e_before of a rising turn > e_before of another) + P(equal) / 2      (Mann-Whitney)

    Who is happier already is likelier to be pleased again, so this number, which has not seen a word, is the
    least that a judge of such dialogues must beat.

    Args:
        paths: [T+1] each, emotion values of a dialogue.

    Returns:
        0 to 1; NaN when all turns rise or none does.
    """
    from scipy.stats import rankdata

    before = np.concatenate([path[:-1] for path in paths])
    rises = np.concatenate([np.diff(path) > 0 for path in paths])
    rising, other = int(rises.sum()), int((~rises).sum())
    if not rising or not other:
        return float("nan")
    ranks = float(rankdata(before)[rises].sum())
    return (ranks - rising * (rising + 1) / 2) / (rising * other)
