"""The Director: after each scored reply, chooses how the story goes on. What was told is kept in a `Plot`.

The model calls a move (`moves.py`); which fragment that reveals, and whether it is possible, is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from mica_ray.chat.model import ChatModel, JsonSchema
from mica_ray.dialogue.answer import ask, read_object
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.moves import Move, heard_by_actor, moves_schema, moves_text
from mica_ray.dialogue.role_messages import SpokenTurn, director_messages
from mica_ray.types import Sampling, Scenario, State, Status


@dataclass(frozen=True, slots=True)
class Plot:
    """A scenario's story and how much of it has been told. Stages are told in order, each once."""

    stages: tuple[str, ...]
    num_revealed: int = 0

    @property
    def revealed(self) -> tuple[str, ...]:
        """The fragments revealed so far, in order."""
        return self.stages[: self.num_revealed]

    @property
    def upcoming(self) -> tuple[str, ...]:
        """The fragments to come, in order."""
        return self.stages[self.num_revealed :]

    @property
    def moves(self) -> tuple[Move, ...]:
        """The moves that are possible now."""
        return tuple(move for move in Move if self.upcoming or move is not Move.REVEAL_STAGE)

    @property
    def next_stage(self) -> int:
        """The number of the fragment that comes next, from 1."""
        return self.num_revealed + 1

    def after(self, direction: Direction) -> Plot:
        """Give the plot once a direction has been carried out."""
        return replace(self, num_revealed=self.num_revealed + (direction.fragment is not None))


@dataclass(frozen=True, slots=True)
class Direction:
    """One decision of the Director. A Director that fails lets the dialogue go on, and says it failed."""

    move: Move
    guidance: str | None = None
    """What the Actor is told, None when nothing."""
    fragment: str | None = None
    """The story fragment to tell now; only with REVEAL_STAGE."""
    status: Status = Status.OK
    error: str | None = None
    """Why the Director failed, None when it did not."""


@dataclass(frozen=True, slots=True)
class Director:
    """Consumes a scored dialogue and its plot, produces a `Direction`; waits for its model alone."""

    model: ChatModel
    domain: Domain
    sampling: Sampling
    """The seed is replaced in every call."""
    deadline_seconds: float = 120.0
    """For one decision with its repair, waiting for the endpoint's free slot included."""

    async def direct(
        self,
        scenario: Scenario,
        dialogue: Sequence[SpokenTurn],
        *,
        state: State,
        energy: Sequence[float],
        plot: Plot,
        seed: int,
    ) -> Direction:
        """Choose the next move. A model's failure is no exception: the move is then CONTINUE, with the error.

        Args:
            scenario: whose story.
            dialogue: oldest first, every reply scored.
            state: P_t, points.
            energy: dE of each turn played, points.
            plot: what has been told.
            seed: makes the choice reproducible.
        """
        language = scenario.language
        instructions, case = director_messages(
            self.domain,
            scenario,
            state=state,
            dialogue=dialogue,
            energy=energy,
            revealed=plot.revealed,
            upcoming=plot.upcoming,
        )
        calls = moves_text(plot.moves, plot.next_stage, language)
        answer = await ask(
            self.model,
            ({"role": "system", "content": f"{instructions['content']}\n\n{calls}"}, case),
            sampling=replace(self.sampling, seed=seed),
            schema=direction_schema(plot),
            read=lambda text: read_direction(text, plot, language=language),
            deadline_seconds=self.deadline_seconds,
        )
        if answer.value is None:
            return Direction(Move.CONTINUE, status=answer.status, error=answer.error)
        return replace(answer.value, status=answer.status)


def direction_schema(plot: Plot) -> JsonSchema:
    """Give the JSON schema of a Director's answer: one call of a move that is possible now."""
    return moves_schema(plot.moves, plot.next_stage)


def read_direction(text: str, plot: Plot, *, language: str = "en") -> Direction:
    """Read a Director's call and work out which fragment it reveals.

    Args:
        text: one JSON object, the call itself or {"call": the call}.
        plot: what has been told.
        language: in which the Actor is guided.

    Raises:
        ValueError: no JSON object, a move that is unknown or impossible now, an argument that does not fit.
    """
    answer = read_object(text)
    inner = answer.get("call")
    call = cast("Mapping[str, object]", inner) if isinstance(inner, Mapping) else answer
    move = next((move for move in plot.moves if move.value == call.get("move")), None)
    if move is None:
        raise ValueError(f"move must be one of {', '.join(plot.moves)}; got {call.get('move')!r:.40}")
    heard = heard_by_actor(move, call, plot.next_stage, language)
    return Direction(
        move,
        guidance=None if move is Move.OBSERVE else heard,
        fragment=plot.upcoming[0] if move is Move.REVEAL_STAGE else None,
    )
