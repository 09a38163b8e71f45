"""Cost of a run's model calls: totals by role and phase, and one JSON line per dialogue.

A call is assigned to its dialogue by a context variable, which dialogue/play.py sets.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mica_ray.chat.model import ChatError, ChatModel, ChatReply, JsonSchema
from mica_ray.checks import above
from mica_ray.files import append_line, mend_lines, read_json_lines
from mica_ray.types import Message, Sampling

POLICY = "policy"
"""Role name of the model in training, which is sampled by engines and not by chat calls."""


@dataclass(frozen=True, slots=True)
class Price:
    """Price of a model's tokens."""

    prompt: float = 0.0
    """USD per million tokens."""
    completion: float = 0.0
    """USD per million tokens, reasoning included."""

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return the price of a call in USD."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


@dataclass(frozen=True, slots=True)
class Tally:
    """Calls and their cost. Tokens of attempts without an answer are unknown and not counted."""

    calls: int = 0
    failed_calls: int = 0
    """Calls that returned no answer or were cancelled."""
    retries: int = 0
    """Attempts beyond the first, of the calls that returned an answer."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    """Sum of the calls' durations, waiting included; concurrent calls each count in full."""
    usd: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        """Add two tallies."""
        return self._combined(other, 1)

    def __sub__(self, other: Tally) -> Tally:
        """Subtract an earlier tally."""
        return self._combined(other, -1)

    def _combined(self, other: Tally, sign: int) -> Tally:
        # Written out for speed: it runs with every call, and dataclasses.astuple copies deeply.
        return Tally(
            calls=self.calls + sign * other.calls,
            failed_calls=self.failed_calls + sign * other.failed_calls,
            retries=self.retries + sign * other.retries,
            prompt_tokens=self.prompt_tokens + sign * other.prompt_tokens,
            completion_tokens=self.completion_tokens + sign * other.completion_tokens,
            seconds=self.seconds + sign * other.seconds,
            usd=self.usd + sign * other.usd,
        )


_NOTHING = Tally()


@dataclass(frozen=True, slots=True)
class DialogueKey:
    """Identifies a dialogue while it is played."""

    step: int
    scenario: str
    sample: int


_CURRENT: ContextVar[DialogueKey | None] = ContextVar("current_dialogue", default=None)


@contextmanager
def dialogue_costs(key: DialogueKey) -> Generator[None]:
    """Count the calls made inside this context, and in tasks started there, for a dialogue."""
    token = _CURRENT.set(key)
    try:
        yield
    finally:
        _CURRENT.reset(token)


class Ledger:
    """Adds up tallies by role and phase, and writes one line per dialogue to a file.

    A resumed run continues from the lines of its file. The cost of dialogues that a killed step left
    unfinished has no line and is not counted.

    Args:
        path: JSON lines, created if missing. None keeps everything in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.phase = ""
        """Current phase of the run: "train", "audit", "evaluate_before" or "evaluate_after"."""
        self._path = path
        self._is_mended = False
        self._totals: dict[tuple[str, str], Tally] = {}
        self._open: dict[DialogueKey, dict[str, Tally]] = {}
        if path is not None:
            # Read only: the file may belong to a run that is still writing.
            for line in read_json_lines(path, is_growing=True):
                for role, tally in line.fields["roles"].items():
                    self._count(line.fields["phase"], role, Tally(**tally))

    def add(self, role: str, tally: Tally) -> None:
        """Count calls of a role, also for the dialogue that is being played, if there is one."""
        self._count(self.phase, role, tally)
        key = _CURRENT.get()
        if key is not None:
            roles = self._open.setdefault(key, {})
            roles[role] = roles.get(role, _NOTHING) + tally

    def close(self, key: DialogueKey) -> None:
        """Write the line of a finished dialogue."""
        roles = self._open.pop(key, {})
        if self._path is not None:
            row = {"phase": self.phase, **asdict(key), "roles": {role: asdict(roles[role]) for role in roles}}
            if not self._is_mended:
                mend_lines(self._path)
                self._is_mended = True
            append_line(self._path, json.dumps(row).encode())

    def totals(self, phases: Sequence[str] | None = None) -> Mapping[str, Tally]:
        """Return the totals by role.

        Args:
            phases: phases to add up; None for all.
        """
        found: dict[str, Tally] = {}
        for (phase, role), tally in self._totals.items():
            if phases is None or phase in phases:
                found[role] = found.get(role, _NOTHING) + tally
        return found

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases so far, in order of their first call."""
        return tuple(dict.fromkeys(phase for phase, _ in self._totals))

    def _count(self, phase: str, role: str, tally: Tally) -> None:
        self._totals[phase, role] = self._totals.get((phase, role), _NOTHING) + tally


def total(tallies: Mapping[str, Tally]) -> Tally:
    """Add up the tallies of all roles."""
    return sum(tallies.values(), _NOTHING)


@dataclass(frozen=True, slots=True)
class Budget:
    """Spending limit of a run. It is checked between steps, so the last step may exceed it."""

    usd: float | None = None
    """Limit over all roles, evaluations included; None for no limit."""
    calls: int | None = None
    """Limit on calls of actor, director and judge, failed ones included; None for no limit."""

    def __post_init__(self) -> None:
        """Check that the limits are positive."""
        if self.usd is not None:
            above(0, usd=self.usd)
        if self.calls is not None:
            above(0, calls=self.calls)

    def excess(self, spent: Mapping[str, Tally]) -> str | None:
        """Return which limit is reached and how to raise it; None if there is budget left.

        Args:
            spent: tallies by role.
        """
        usd = total(spent).usd
        if self.usd is not None and usd >= self.usd:
            return f"The budget of {self.usd:g} USD is spent ({usd:.2f}). Raise budget.usd and --resume."
        calls = sum(tally.calls for role, tally in spent.items() if role != POLICY)
        if self.calls is not None and calls >= self.calls:
            return f"The budget of {self.calls} calls is spent ({calls}). Raise budget.calls and --resume."
        return None


class MeteredChat:
    """A chat model that forwards to another model and counts its calls.

    Args:
        inner: the model that answers.
        ledger: counts the calls.
        role: role for which the calls are counted.
        price: price of the model's tokens.
    """

    def __init__(self, inner: ChatModel, ledger: Ledger, role: str, price: Price) -> None:
        self._inner, self._ledger, self._role, self._price = inner, ledger, role, price

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        """Return the inner model's answer and count the call.

        Raises:
            ChatError: from the inner model.
        """
        begin = time.perf_counter()
        # The default covers cancellation by the caller, which is not a ChatError.
        spent = Tally(calls=1, failed_calls=1)
        try:
            reply = await self._inner.chat(messages, sampling, schema)
            spent = self._tally(reply.prompt_tokens, reply.completion_tokens, retries=reply.attempts - 1)
        except ChatError as error:
            spent = self._tally(error.prompt_tokens, error.completion_tokens, failed_calls=1)
            raise
        finally:
            self._ledger.add(self._role, replace(spent, seconds=time.perf_counter() - begin))
        return reply

    def _tally(
        self, prompt_tokens: int, completion_tokens: int, *, failed_calls: int = 0, retries: int = 0
    ) -> Tally:
        return Tally(
            calls=1,
            failed_calls=failed_calls,
            retries=retries,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            usd=self._price.of(prompt_tokens, completion_tokens),
        )
