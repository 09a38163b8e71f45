"""Counts of answers and failures by role, over finished dialogues."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mica_ray.types import RoleName, Status, Stop, Trajectory


def count_answers(dialogues: Sequence[Trajectory]) -> Counter[tuple[RoleName, Status]]:
    """Count the answers by role and status, including those of failed dialogues.

    A turn that an engine failure or a deadline interrupted is not recorded, and neither are its answers.
    """
    counts: Counter[tuple[RoleName, Status]] = Counter()
    for dialogue in dialogues:
        for turn in dialogue.turns:
            if not turn.is_silent:
                counts["judge", turn.judgement.status] += 1
            counts.update((answer.role, answer.status) for answer in turn.answers)
    return counts


def count_unfound_evidence(dialogues: Sequence[Trajectory]) -> int:
    """Count the judge's evidence texts that occur nowhere in the dialogue."""
    return sum(turn.judgement.unfound_evidence for dialogue in dialogues for turn in dialogue.turns)


def count_silent(dialogues: Sequence[Trajectory]) -> int:
    """Count the replies in which the policy said nothing."""
    return sum(turn.is_silent for dialogue in dialogues for turn in dialogue.turns)


def count_early_ends(dialogues: Sequence[Trajectory]) -> int:
    """Count the turns after which the Director ended a dialogue too early, and it continued."""
    return sum(answer.is_early_end for item in dialogues for turn in item.turns for answer in turn.answers)


def count_failures(dialogues: Sequence[Trajectory]) -> int:
    """Count failures: failed answers, and dialogues that failed for another reason."""
    return sum(_failures(dialogue) for dialogue in dialogues)


def _failures(dialogue: Trajectory) -> int:
    failed = sum(count for (_, status), count in count_answers([dialogue]).items() if status.failure_kind)
    ends_in_answer = bool(dialogue.turns) and (
        any(answer.role == "actor" and answer.status.failure_kind for answer in dialogue.turns[-1].answers)
        or not any(turn.judgement.is_valid or turn.is_silent for turn in dialogue.turns)
    )
    return failed + (dialogue.stop is Stop.FAILED and not ends_in_answer)
