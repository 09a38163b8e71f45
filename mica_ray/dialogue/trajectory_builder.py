"""What the turns of one dialogue came to: an exchange for each, and the trajectory they become."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mica_ray.dialogue.prefix import Prefix
from mica_ray.types import (
    Generation,
    Judgement,
    Message,
    RoleAnswer,
    Scenario,
    State,
    Stop,
    Trajectory,
    Turn,
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the environment gives back for one reply."""

    judgement: Judgement
    state_after: State
    """P_t, points; unchanged when the judgement failed."""
    user: Message | None
    """The user's next message; None exactly when the dialogue is over."""
    stop: Stop | None
    """Why the dialogue is over, None to go on."""
    guidance: str | None = None
    """What the Director told the Actor for `user`; it belongs to the next turn."""
    error: str | None = None
    """The reason when `stop` is FAILED; otherwise a failure of the Director that the dialogue survived."""
    answers: tuple[RoleAnswer, ...] = ()
    """Of Director and Actor, where they were asked."""


class TrajectoryBuilder:
    """Writes down one dialogue while it is played: what the policy sees, and the trajectory it becomes.

    Whoever drives an environment calls `open` with the user's first message and `add` after each exchange;
    `stop` is set when the dialogue is over.

    Args:
        scenario: whose dialogue.
        policy_prompt: the policy's system prompt; empty for none.
        group: equal for the dialogues of one scenario in one step.
        sample: 0..N-1 within the group.
        begun: what was played before; None for a dialogue from its opening. Its turns are seen by the policy
            and not part of the trajectory, which begins in the state they led to and keeps counting them.
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
        """What the policy answers next; ends with the user's message while the dialogue goes on."""
        if policy_prompt:
            self.messages.append({"role": "system", "content": policy_prompt})
        for user, reply in () if begun is None else begun.spoken:
            self.messages.append({"role": "user", "content": user})
            self.messages.append({"role": "assistant", "content": reply})
        self.stop: Stop | None = None
        """None while the dialogue goes on."""
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
        """Turns written down so far."""
        return len(self._turns)

    def open(self, opening: Message) -> None:
        """Write down the user's first message, as `Environment.open` gave it."""
        self.messages.append(opening)

    def add(self, reply: str, exchange: Exchange, *, generation: Generation | None = None) -> None:
        """Write down one played turn.

        Args:
            reply: the policy's reply as the environment got it.
            exchange: what the environment gave back.
            generation: the reply's tokens, None for a text-only policy.
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
        )
        self._turns.append(turn)
        self.messages.append({"role": "assistant", "content": reply})
        if exchange.user is not None:
            self.messages.append(exchange.user)
        self.stop, self._guidance = exchange.stop, exchange.guidance
        self._error = exchange.error if exchange.stop is Stop.FAILED else None
        self._director_failures += exchange.error is not None and exchange.stop is not Stop.FAILED

    def end(self, stop: Stop, error: str | None = None) -> None:
        """End the dialogue from outside: FAILED with its reason, or LIMIT where the context is full."""
        self.stop, self._error = stop, error

    def trajectory(self) -> Trajectory:
        """Give the finished record.

        A dialogue whose user fell silent is FAILED, and so is one in which nothing was judged: neither is a
        short dialogue that the policy ended well or badly.

        Raises:
            RuntimeError: the dialogue is not over.
        """
        if self.stop is None:
            raise RuntimeError(f"the dialogue of scenario {self._scenario.id} is not over: end it first")
        judgements = [turn.judgement for turn in self._turns]
        if self.stop is not Stop.FAILED and judgements and not any(item.is_valid for item in judgements):
            self.end(Stop.FAILED, f"no turn was judged, the last because: {judgements[-1].error}")
        is_silent = any(
            answer.role == "actor" and answer.status.failure_kind
            for turn in self._turns
            for answer in turn.answers
        )
        assert self.stop is Stop.FAILED or not is_silent, "without the user there is no ending but FAILED"
        return Trajectory(
            scenario=self._scenario,
            group=self._group,
            sample=self._sample,
            turns=tuple(self._turns),
            stop=self.stop,
            error=self._error,
            director_failures=self._director_failures,
        )
