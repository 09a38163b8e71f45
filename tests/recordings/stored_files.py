"""Lines of dialogue files made from zone distances, so that the rewards are known."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

from tests.evaluation.recorded_files import Fields, level_fields


def own_dialogue(
    *distances: float, step: int = 0, group: int = 0, lost: Collection[int] = (), **changes: object
) -> Fields:
    """One dialogue as `mica train` logs it, D_0 first; its recorded rewards are twice the IDR."""
    turns: list[Fields] = []
    for turn, (before, after) in enumerate(pairwise(distances)):
        is_judged = turn not in lost
        turns.append(
            {
                "index": turn,
                "user": f"user {turn}",
                "reply": f"reply {turn}",
                "progress": [0, 0, 0] if is_judged else None,
                "regress": [0, 0, 0] if is_judged else None,
                "delta": [before - after, 0, 0] if is_judged else None,
                "state": [-1 - after, 0, 0],  # the zone forgives one point
                "reward": 2 * (before - after) if is_judged else None,
                "reply_tokens": 10 + turn,
            }
        )
    return {
        "step": step,
        "group": group,
        "scenario": "s-1",
        "stop": "limit",
        "initial_state": [-1 - distances[0], 0, 0],
        "turns": turns,
        **changes,
    }


def run_dialogue(
    *distances: float, model: str = "helper-1", case: str = "script_1", **changes: object
) -> Fields:
    """One dialogue of a published run; equal neighbours are judged turns that move nothing."""
    points: list[Fields] = [
        {"turn": turn, "P_t": [-1 - distance, 0, 0], "levels": level_fields() if turn else {}}
        for turn, distance in enumerate(distances)
    ]
    history: list[dict[str, str]] = []
    for turn in range(len(distances) - 1):
        history += [
            {"role": "actor", "content": f"actor {turn}"},
            {"role": "test_model", "content": "abcde"[: turn + 1]},
        ]
    return {
        "model": model,
        "script_id": case,
        "termination_reason": "timeout",
        "trajectory": points,
        "history": history,
        **changes,
    }
