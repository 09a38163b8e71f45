"""The Director: chooses the next move of the story after each scored reply.

The model calls a move (dialogue/moves.py); this file decides whether it is possible and what it reveals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from mica_ray.chat.model import ChatModel, JsonSchema
from mica_ray.dialogue.answer import ask, read_object
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.moves import Move, actor_guidance, chosen_stage, moves_schema, moves_text
from mica_ray.dialogue.role_messages import SpokenTurn, director_messages
from mica_ray.types import FinishReason, Sampling, Scenario, State, Status


@dataclass(frozen=True, slots=True)
class Plot:
    """A scenario's story and what of it is revealed. The Director chooses the stages, each at most once."""

    stages: tuple[str, ...]
    told: tuple[int, ...] = ()
    """Numbers of the stages revealed so far, counted from 1, in the order in which they were revealed."""

    @property
    def revealed(self) -> tuple[str, ...]:
        """Fragments revealed so far, in the order in which they were revealed."""
        return tuple(self.stages[number - 1] for number in self.told)

    @property
    def upcoming(self) -> Mapping[int, str]:
        """Fragments still to be revealed, by number."""
        return {number: text for number, text in enumerate(self.stages, 1) if number not in self.told}

    @property
    def moves(self) -> tuple[Move, ...]:
        """Moves that are possible now."""
        return tuple(move for move in Move if self.upcoming or move is not Move.REVEAL_STAGE)

    def after(self, direction: Direction) -> Plot:
        """Return the plot after a direction has been carried out."""
        return self if direction.stage is None else replace(self, told=(*self.told, direction.stage))


@dataclass(frozen=True, slots=True)
class Direction:
    """One decision of the Director; CONTINUE with status and error if it failed."""

    move: Move
    guidance: str | None = None
    """Guidance for the Actor; None for none."""
    fragment: str | None = None
    """The story fragment to reveal now; only with REVEAL_STAGE."""
    stage: int | None = None
    """Number of that fragment, counted from 1."""
    is_early_end: bool = False
    """Whether the Director called END, which the rules do not allow yet; the move is then CONTINUE."""
    status: Status = Status.OK
    error: str | None = None
    """Why the Director failed; None if it did not."""
    finish_reason: FinishReason | None = None
    """Why the model stopped writing its last answer; None if unknown."""


@dataclass(frozen=True, slots=True)
class Director:
    """Chooses a `Direction` for a scored dialogue and its plot. Waits for its model only."""

    model: ChatModel
    domain: Domain
    sampling: Sampling
    """The seed is replaced in every call."""
    deadline_seconds: float = 120.0
    """Deadline of one decision with its repair, including the wait for a slot of the endpoint."""

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
        """Choose the next move. If the model fails, the move is CONTINUE and carries the error.

        Args:
            scenario: the scenario of the dialogue.
            dialogue: oldest turn first, every reply scored.
            state: P_t, points.
            energy: dE of each turn played, points.
            plot: the story so far.
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
        # All moves, also those that the schema excludes now: equal instructions are cached by the endpoint.
        calls = moves_text(tuple(Move), language)
        answer = await ask(
            self.model,
            ({"role": "system", "content": f"{instructions['content']}\n\n{calls}"}, case),
            sampling=replace(self.sampling, seed=seed),
            schema=direction_schema(plot),
            read=lambda text: read_direction(text, plot, language=language),
            deadline_seconds=self.deadline_seconds,
        )
        if answer.value is None:
            failed = Direction(Move.CONTINUE, status=answer.status, error=answer.error)
            return replace(failed, finish_reason=answer.finish_reason)
        return replace(answer.value, status=answer.status, finish_reason=answer.finish_reason)


def direction_schema(plot: Plot) -> JsonSchema:
    """Return the JSON schema of a Director's answer: one call of a move that is possible now."""
    return moves_schema(plot.moves, tuple(plot.upcoming))


def read_direction(text: str, plot: Plot, *, language: str = "en") -> Direction:
    """Read a Director's call and find the fragment that it reveals.

    Args:
        text: one JSON object, the call itself or {"call": the call}.
        plot: the story so far.
        language: language of the Actor's guidance.

    Raises:
        ValueError: not a JSON object, an unknown or impossible move, a stage that does not exist or was
            revealed before, or another invalid argument. Models read the message.
    """
    answer = read_object(text)
    inner = answer.get("call")
    call = cast("Mapping[str, object]", inner) if isinstance(inner, Mapping) else answer
    move = next((move for move in plot.moves if move.value == call.get("move")), None)
    if move is None:
        raise ValueError(f"move must be one of {', '.join(plot.moves)}; got {call.get('move')!r:.40}")
    stage = chosen_stage(call, tuple(plot.upcoming)) if move is Move.REVEAL_STAGE else None
    guidance = actor_guidance(move, call, language)
    return Direction(
        move,
        guidance=None if move is Move.OBSERVE else guidance,
        fragment=None if stage is None else plot.upcoming[stage],
        stage=stage,
    )
