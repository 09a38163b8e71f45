"""The environment of one dialogue: everything around the policy, as text.

dialogue/play.py drives it; dialogue/trajectory_builder.py collects the turns.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from mica_ray.chat.model import ChatError
from mica_ray.dialogue.actor import Actor
from mica_ray.dialogue.answer import failure_status
from mica_ray.dialogue.director import Direction, Director, Move, Plot
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.judger import Judge
from mica_ray.dialogue.prefix import Prefix
from mica_ray.dialogue.progress import energy_increments, judge_stop
from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.dialogue.trajectory_builder import Exchange
from mica_ray.seeding import derive_seed
from mica_ray.types import (
    Judgement,
    Message,
    RoleAnswer,
    Scenario,
    State,
    Stop,
)


class Environment(Protocol):
    """Everything around the policy in one dialogue. Used once."""

    async def open(self) -> Message:
        """Return the user's first message.

        Raises:
            ChatError: a model had to write it and failed.
        """
        ...

    async def respond(self, reply: str) -> Exchange:
        """Score the policy's reply and return the judgement and the user's next message."""
        ...


class DialogueEnvironment:
    """A turn in EMPA's order: reply, judge, state, stop, Director, Actor (arXiv 2603.00552).

    The Director may end a dialogue from turn `rules.check_from` on, if it is a success. The rules end it
    then, before the Director is asked: an `end` that the Director calls is therefore always too early. It is
    counted and treated as `continue` without guidance, which would be about leaving.

    The roles are called one after the other. After a failed judgement the state is unchanged and the dialogue
    continues; a failed Director gives no new guidance; a failed Actor ends the dialogue as FAILED. Every role
    call samples with `derive_seed(seed, role, turn)`: for the judge, turn is the scored one, for Director and
    Actor the one in preparation (0 for an opening).

    Args:
        scenario: the simulated user.
        domain: source of the rules.
        actor: plays the user.
        judge: scores the replies.
        director: guides the Actor; None for no Director.
        seed: seed of this dialogue.
        begun: turns played before; None for a dialogue from its opening.
    """

    def __init__(
        self,
        scenario: Scenario,
        domain: Domain,
        *,
        actor: Actor,
        judge: Judge,
        director: Director | None = None,
        seed: int = 0,
        begun: Prefix | None = None,
    ) -> None:
        self._scenario = scenario
        self._rules = domain.rules
        self._actor = actor
        self._judge = judge
        self._director = director
        self._seed = seed
        self._begun = begun
        self._states: list[State] = [scenario.initial_state] if begun is None else list(begun.states)
        self._dialogue: list[SpokenTurn] = [
            {"user": user, "reply": reply} for user, reply in (() if begun is None else begun.spoken)
        ]
        self._plot = Plot(scenario.stages, () if begun is None else begun.told)
        self._was_opened = False
        self._user: str | None = None
        """The message to reply to; None before the opening and after the end."""

    async def open(self) -> Message:
        """Return the message to reply to: the prefix's, the scenario's opening, or the Actor's.

        Raises:
            ChatError: the Actor had to write the opening and failed.
            RuntimeError: the dialogue is already open.
        """
        if self._was_opened:
            raise RuntimeError(
                f"The dialogue of scenario {self._scenario.id} is already open. Build a new environment."
            )
        if self._begun is not None:
            self._user = self._begun.user
        else:
            self._user = self._scenario.opening or await self._find_opening()
        self._was_opened = True
        return {"role": "user", "content": self._user}

    async def respond(self, reply: str) -> Exchange:
        """Play one turn. Failures of the roles' models are part of the exchange, never exceptions.

        Raises:
            RuntimeError: the dialogue is not open, has ended, or is already handling a reply.
        """
        if self._user is None:
            raise RuntimeError(
                f"The dialogue of scenario {self._scenario.id} has no message to reply to. Call open(), "
                "wait for the previous reply, or build a new environment if it has ended."
            )
        turn = len(self._dialogue)
        self._dialogue.append({"user": self._user, "reply": reply})
        self._user = None
        judgement = await self._judge.score(
            self._scenario,
            tuple(self._dialogue),
            state=self._states[-1],
            seed=derive_seed(self._seed, "judge", turn),
        )
        self._states.append(_next_state(self._states[-1], judgement))
        stop = judge_stop(np.asarray(self._states), self._rules)
        if stop is not None:
            return Exchange(judgement, self._states[-1], user=None, stop=stop)
        return await self._speak(judgement, await self._direct())

    async def _find_opening(self) -> str:
        opening = await self._actor.open(self._scenario, seed=derive_seed(self._seed, "actor", 0))
        return opening.text

    async def _direct(self) -> Direction:
        if self._director is None:
            return Direction(Move.CONTINUE)
        direction = await self._director.direct(
            self._scenario,
            tuple(self._dialogue),
            state=self._states[-1],
            energy=energy_increments(np.asarray(self._states)).tolist(),
            plot=self._plot,
            seed=derive_seed(self._seed, "director", len(self._dialogue)),
        )
        if direction.move is not Move.END:
            return direction
        return replace(direction, move=Move.CONTINUE, guidance=None, is_early_end=True)

    async def _speak(self, judgement: Judgement, direction: Direction) -> Exchange:
        state, answers = self._states[-1], tuple[RoleAnswer, ...]()
        if self._director is not None:
            status, error, reason = direction.status, direction.error, direction.finish_reason
            answers = (RoleAnswer("director", status, error, reason, direction.is_early_end),)
        try:
            message = await self._actor.speak(
                self._scenario,
                tuple(self._dialogue),
                state=state,
                revealed=self._plot.revealed,
                guidance=direction.guidance,
                fragment=direction.fragment,
                seed=derive_seed(self._seed, "actor", len(self._dialogue)),
            )
        except ChatError as error:
            silence = RoleAnswer("actor", failure_status(error), str(error))
            return Exchange(
                judgement,
                state,
                user=None,
                stop=Stop.FAILED,
                error=str(error),
                answers=(*answers, silence),
            )
        self._plot, self._user = self._plot.after(direction), message.text
        return Exchange(
            judgement,
            state,
            user={"role": "user", "content": message.text},
            stop=None,
            guidance=direction.guidance,
            error=direction.error,
            answers=(*answers, RoleAnswer("actor", message.status, finish_reason=message.finish_reason)),
        )


def _next_state(state: State, judgement: Judgement) -> State:
    """P_t = P_{t-1} + v_t; a failed judgement leaves the state unchanged."""
    if judgement.delta is None:
        return state
    c, a, p = (before + change for before, change in zip(state, judgement.delta, strict=True))
    return c, a, p
