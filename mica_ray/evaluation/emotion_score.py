"""The benchmark's score of recorded SAGE dialogues (arXiv 2505.02847).

recordings/emotion_format.py reads such files; domains/sage.py is the world in which they are played.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mica_ray.domains.sage import EMOTION, GIVE_UP_BELOW
from mica_ray.recordings.frames import dialogues_frame
from mica_ray.recordings.recorded_dialogue import RecordedDialogue
from mica_ray.statistics import Interval, bootstrap_mean, wilson

TOP = EMOTION.top


@dataclass(frozen=True, slots=True)
class EmotionScore:
    """The scores of one model's recorded dialogues. Intervals are 95 % over dialogues."""

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
    """Mean final emotion by task: what the user hopes for."""
    rise_auc: float
    """How well the emotion before a turn predicts whether it rises (`rise_auc_of_previous`)."""
    notes: tuple[str, ...]


def score_emotions(records: Sequence[RecordedDialogue], *, seed: int) -> EmotionScore:
    """Score the recorded SAGE dialogues of one model as the benchmark does.

        score = mean final emotion; success: it is 100; failure: it is below 10        SAGE leaderboard

    Args:
        records: of one model, all with emotion values.
        seed: of the bootstrap.
    """
    paths = [record.emotions for record in records if record.emotions is not None]
    frame = dialogues_frame(records)
    finals = frame["final_emotion"].to_numpy()
    changes = [float(np.diff(path).mean()) for path in paths if len(path) > 1]
    successes, failures = int((finals >= TOP).sum()), int((finals < GIVE_UP_BELOW).sum())
    by_task = frame.query("category != ''").groupby("category")
    return EmotionScore(
        final_emotion=bootstrap_mean(finals, seed=seed),
        successes=successes,
        failures=failures,
        success_fraction=wilson(successes, len(records)),
        failure_fraction=wilson(failures, len(records)),
        change_per_turn=bootstrap_mean(changes, seed=seed),
        num_dialogues=len(records),
        num_turns=float(np.mean([len(path) - 1 for path in paths])),
        by_task={
            str(task): bootstrap_mean(np.asarray(members["final_emotion"]), seed=seed)
            for task, members in by_task
        },
        rise_auc=rise_auc_of_previous(paths),
        notes=tuple(note for record in records for note in record.notes),
    )


def rise_auc_of_previous(paths: Sequence[np.ndarray]) -> float:
    """Return the AUC with which the emotion before a turn predicts that the turn raises it.

        AUC = P(e_before of a rising turn > e_before of another) + P(equal) / 2      (Mann-Whitney)

    A happier user is more likely to be pleased again. This number uses no text, so it is the baseline that a
    judge of such dialogues must beat.

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
