"""Builds the trajectory of one dialogue from the exchanges of its turns."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mica_ray.dialogue.prefix import Prefix
from mica_ray.types import (
    FinishReason,
    Generation,
    Judgement,
    Message,
    RoleAnswer,
    Scenario,
    State,
    Status,
    Stop,
    Trajectory,
    Turn,
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """The environment's response to one reply."""

    judgement: Judgement
    state_after: State
    """P_t, points; unchanged when the judgement failed."""
    user: Message | None
    """The user's next message; None if and only if the dialogue is over."""
    stop: Stop | None
    """Why the dialogue is over; None if it continues."""
    guidance: str | None = None
    """The Director's guidance for `user`; it belongs to the next turn."""
    error: str | None = None
    """The reason if `stop` is FAILED; otherwise a failure of the Director, which does not end it."""
    answers: tuple[RoleAnswer, ...] = ()
    """Answers of Director and Actor, if they were called."""


class TrajectoryBuilder:
    """Collects one dialogue while it is played: the policy's messages and the trajectory.

    Call `open` with the user's first message and `add` after each exchange; `stop` is set at the end.

    Args:
        scenario: scenario of the dialogue.
        policy_prompt: the policy's system prompt; empty for none.
        group: equal for the dialogues of one scenario in one step.
        sample: 0..N-1 within the group.
        begun: turns played before; None for a dialogue from its opening. The policy sees these turns, but
            they are not part of the trajectory, which starts at their last state and continues their count.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        policy_prompt: str,
        group: int = 0,
        sample: int = 0,
        begun: Prefix | None = None,
    ) -> None:
        self.messages: list[Message] = []
        """The policy's input for the next reply; ends with the user's message until the dialogue is over."""
        if policy_prompt:
            self.messages.append({"role": "system", "content": policy_prompt})
        for user, reply in () if begun is None else begun.spoken:
            self.messages.append({"role": "user", "content": user})
            self.messages.append({"role": "assistant", "content": reply})
        self.stop: Stop | None = None
        """None until the dialogue is over."""
        self._director_failures = 0
        self._error: str | None = None
        self._guidance: str | None = None
        self._turns: list[Turn] = []
        self._first_turn = 0 if begun is None else begun.num_turns
        self._scenario = scenario if begun is None else replace(scenario, initial_state=begun.states[-1])
        self._group = group
        self._sample = sample

    @property
    def num_turns(self) -> int:
        """Number of turns so far."""
        return len(self._turns)

    def open(self, opening: Message) -> None:
        """Add the user's first message, as `Environment.open` returned it."""
        self.messages.append(opening)

    def add(
        self,
        reply: str,
        exchange: Exchange,
        *,
        generation: Generation | None = None,
        finish_reason: FinishReason | None = None,
    ) -> None:
        """Add one turn.

        Args:
            reply: what the policy said.
            exchange: the environment's response to it.
            generation: the reply's tokens; None for a text-only policy.
            finish_reason: why the policy stopped writing; None if unknown.
        """
        turn = Turn(
            index=self._first_turn + len(self._turns),
            user=self.messages[-1]["content"],
            reply=reply,
            judgement=exchange.judgement,
            state_after=exchange.state_after,
            generation=generation,
            guidance=self._guidance,
            answers=exchange.answers,
            finish_reason=finish_reason,
        )
        self._turns.append(turn)
        self.messages.append({"role": "assistant", "content": reply})
        if exchange.user is not None:
            self.messages.append(exchange.user)
        self.stop, self._guidance = exchange.stop, exchange.guidance
        self._error = exchange.error if exchange.stop is Stop.FAILED else None
        self._director_failures += _has_director_failed(exchange)

    def add_silence(
        self,
        reason: str,
        *,
        generation: Generation | None = None,
        finish_reason: FinishReason | None = None,
    ) -> None:
        """Add a last turn in which the policy said nothing, and end the dialogue as LIMIT.

        The turn has no score, so that it is masked from rewards and loss; the turns before it keep theirs.

        Args:
            reason: why nothing was said.
            generation: the reply's tokens; None for a text-only policy.
            finish_reason: why the policy stopped writing; None if unknown.
        """
        state = self._turns[-1].state_after if self._turns else self._scenario.initial_state
        judgement = Judgement.failed(Status.INVALID, f"Nothing was said, so nobody was asked. {reason}")
        silence = Exchange(judgement, state, user=None, stop=Stop.LIMIT)
        self.add("", silence, generation=generation, finish_reason=finish_reason)
        self._turns[-1] = replace(self._turns[-1], is_silent=True)

    def end(self, stop: Stop, error: str | None = None) -> None:
        """End the dialogue from outside: FAILED with a reason, or LIMIT if the context is full."""
        self.stop, self._error = stop, error

    def trajectory(self) -> Trajectory:
        """Return the trajectory.

        A dialogue is FAILED if its Actor failed or no turn was judged: it is no evidence about the policy.

        Raises:
            RuntimeError: the dialogue is not over.
        """
        if self.stop is None:
            raise RuntimeError(f"The dialogue of scenario {self._scenario.id} is not over. Call end() first.")
        judgements = [turn.judgement for turn in self._turns]
        if self.stop is not Stop.FAILED and judgements and not any(item.is_valid for item in judgements):
            self.end(Stop.FAILED, f"No turn was judged. The last judgement failed: {judgements[-1].error}")
        has_actor_failed = any(
            answer.role == "actor" and answer.status.failure_kind
            for turn in self._turns
            for answer in turn.answers
        )
        assert self.stop is Stop.FAILED or not has_actor_failed, "a dialogue without a user must be FAILED"
        return Trajectory(
            scenario=self._scenario,
            group=self._group,
            sample=self._sample,
            turns=tuple(self._turns),
            stop=self.stop,
            error=self._error,
            director_failures=self._director_failures,
        )


def _has_director_failed(exchange: Exchange) -> bool:
    """Whether the Director's call failed, also if the Actor's failed after it and is the exchange's error."""
    answered = any(answer.role == "director" for answer in exchange.answers)
    if answered:
        return any(item.role == "director" and item.status.failure_kind for item in exchange.answers)
    return exchange.error is not None and exchange.stop is not Stop.FAILED
