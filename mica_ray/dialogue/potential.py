"""A user world with one scalar instead of three needs: its place on the state, and the judge's answer.

The scalar e of 0..top lies on axis A as e - top points, so that the origin still means "needs met" and the
reward "idr" with distance "norm" is exactly the change of e. Nothing behind the judge knows of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from mica_ray.chat.model import JsonSchema
from mica_ray.dialogue.answer import read_object
from mica_ray.types import Judgement, State

TEXTS = ("feeling", "aim")
"""What the judge writes before the change: a number that comes after its reasons follows from them."""


@dataclass(frozen=True, slots=True)
class Potential:
    """A scalar of 0..top that every judged reply moves by `largest_move` at most."""

    top: float = 100.0
    largest_move: int = 10

    def __post_init__(self) -> None:
        """Refuse a scalar that cannot move."""
        if self.top <= 0:
            raise ValueError(f"top must be > 0; got {self.top}")
        if self.largest_move < 1:
            raise ValueError(f"largest_move must be >= 1; got {self.largest_move}")

    def state(self, value: float) -> State:
        """Give the state at which the scalar has this value.

        Raises:
            ValueError: the value is outside 0..top.
        """
        if not 0 <= value <= self.top:
            raise ValueError(f"value must be in 0..{self.top:g}; got {value}")
        return 0.0, value - self.top, 0.0

    def value(self, state: State) -> float:
        """Give the scalar, 0..top."""
        return self.top + state[1]

    def moved(self, state: State, change: int) -> Judgement:
        """Give the judgement of a reply that changes the scalar; it stays within 0..top.

            v = (0, clip(e + change, 0, top) - e, 0)

        The levels of axis A, which tables and EPM-Q read, follow from the change asked for: 0 for none, 1 up
        to half of the largest move, 2 above.
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
        """Give the JSON schema of the judge's answer: the reasons, then the change."""
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
            ValueError: no JSON object, a missing text, or a change that is no whole number of the range.
        """
        answer = read_object(text)
        problems = [f"{name} must be text" for name in TEXTS if not isinstance(answer.get(name), str)]
        found, limit = answer.get("change"), self.largest_move
        # To Python True is a 1, and it is no change.
        change = found if isinstance(found, int) and not isinstance(found, bool) else None
        if change is None or not -limit <= change <= limit:
            problems.append(f"change must be a whole number from -{limit} to {limit}; got {found!r:.40}")
        if problems or change is None:
            raise ValueError("; ".join(problems))
        judgement = self.moved(state, change)
        evidence = {name: str(answer[name]) for name in TEXTS}
        return Judgement(judgement.progress, judgement.regress, judgement.delta, evidence)
