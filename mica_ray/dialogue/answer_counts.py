"""How often each role answered and failed, counted over finished dialogues."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

from mica_ray.types import Status, Stop, Trajectory

Role = Literal["actor", "director", "judge"]
ROLES: tuple[Role, ...] = get_args(Role)


def count_answers(dialogues: Sequence[Trajectory]) -> Counter[tuple[Role, Status]]:
    """Count the answers by role and status, failed dialogues' turns included.

    A turn that an engine or a deadline broke off is not written down, and neither are its answers.
    """
    counts: Counter[tuple[Role, Status]] = Counter()
    for dialogue in dialogues:
        for turn in dialogue.turns:
            counts["judge", turn.judgement.status] += 1
            counts.update((answer.role, answer.status) for answer in turn.answers)
    return counts


def count_failures(dialogues: Sequence[Trajectory]) -> int:
    """Count what went wrong: answers that never came, and dialogues broken off for another reason."""
    return sum(_failures(dialogue) for dialogue in dialogues)


def _failures(dialogue: Trajectory) -> int:
    failed = sum(count for (_, status), count in count_answers([dialogue]).items() if status.failure_kind)
    ends_in_answer = bool(dialogue.turns) and (
        any(answer.role == "actor" and answer.status.failure_kind for answer in dialogue.turns[-1].answers)
        or not any(turn.judgement.is_valid for turn in dialogue.turns)
    )
    return failed + (dialogue.stop is Stop.FAILED and not ends_in_answer)
