"""A scalar in place of three needs: its position in the state, and the judge's answer.

The scalar e in [0, top] is on axis A as e - top points. The origin still means "needs met", and the reward
"idr" with distance "norm" is exactly the change of e. Only the judge uses the scalar.
"""

from __future__ import annotations

from dataclasses import dataclass

from mica_ray.chat.model import JsonSchema
from mica_ray.checks import above, at_least, within
from mica_ray.dialogue.answer import read_object
from mica_ray.types import Judgement, State

TEXTS = ("feeling", "aim")
"""Text fields that the judge writes before the change, so that the number follows from its reasons."""


@dataclass(frozen=True, slots=True)
class Potential:
    """A scalar in [0, top] that each judged reply changes by at most `largest_move`."""

    top: float = 100.0
    largest_move: int = 10

    def __post_init__(self) -> None:
        """Check the ranges."""
        above(0, top=self.top)
        at_least(1, largest_move=self.largest_move)

    def state(self, value: float) -> State:
        """Return the state in which the scalar has this value.

        Raises:
            ValueError: the value is outside [0, top].
        """
        within(0, self.top, value=value)
        return 0.0, value - self.top, 0.0

    def value(self, state: State) -> float:
        """Return the scalar, in [0, top]."""
        return self.top + state[1]

    def moved(self, state: State, change: int) -> Judgement:
        """Return the judgement of a reply that changes the scalar, which stays in [0, top].

            v = (0, clip(e + change, 0, top) - e, 0)

        Tables and EPM-Q read the levels of axis A. They follow from the requested change: 0 for none, 1 up to
        half of the largest move, 2 above.
        """
        before = self.value(state)
        delta = min(max(before + change, 0.0), self.top) - before
        level = 0 if change == 0 else 1 if abs(change) <= self.largest_move / 2 else 2
        return Judgement(
            progress=(0, level if change > 0 else 0, 0),
            regress=(0, -level if change < 0 else 0, 0),
            delta=(0.0, delta, 0.0),
        )

    def schema(self) -> JsonSchema:
        """Return the JSON schema of the judge's answer: the reasons, then the change."""
        moves = list(range(-self.largest_move, self.largest_move + 1))
        return {
            "type": "object",
            "properties": {
                **{name: {"type": "string"} for name in TEXTS},
                "change": {"type": "integer", "enum": moves},
            },
            "required": [*TEXTS, "change"],
            "additionalProperties": False,
        }

    def read(self, text: str, state: State) -> Judgement:
        """Read the judge's answer about a reply to a user in this state.

        Raises:
            ValueError: not a JSON object, a missing text, or a change that is not an integer in range. Models
                read the message.
        """
        answer = read_object(text)
        problems = [f"{name} must be text" for name in TEXTS if not isinstance(answer.get(name), str)]
        found, limit = answer.get("change"), self.largest_move
        # In Python True equals 1, but it is not a change.
        change = found if isinstance(found, int) and not isinstance(found, bool) else None
        if change is None or not -limit <= change <= limit:
            problems.append(f"change must be a whole number from -{limit} to {limit}; got {found!r:.40}")
        if problems or change is None:
            raise ValueError("; ".join(problems))
        judgement = self.moved(state, change)
        evidence = {name: str(answer[name]) for name in TEXTS}
        return Judgement(judgement.progress, judgement.regress, judgement.delta, evidence)
