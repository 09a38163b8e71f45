"""What the calls of a run cost: by role and phase in total, and for each dialogue as a JSON line.

A call finds its dialogue by a context variable, which whoever plays the dialogue sets.
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
from mica_ray.types import Message, Sampling

POLICY = "policy"
"""The role of the model in training, which is asked through engines and not through calls."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a model's tokens cost."""

    prompt: float = 0.0
    """USD per million tokens."""
    completion: float = 0.0
    """USD per million tokens, thinking included."""

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Give the price of a call in USD."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


@dataclass(frozen=True, slots=True)
class Tally:
    """Calls and what they took. Tokens of attempts that ended without an answer are unknown and missing."""

    calls: int = 0
    failed_calls: int = 0
    """Calls among them that gave no answer, or were given up."""
    retries: int = 0
    """Attempts beyond the first of the calls that gave one."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    """From asking to answer, waiting for the endpoint included, added up over calls that ran side by side."""
    usd: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        """Give both together."""
        return self._combined(other, 1)

    def __sub__(self, other: Tally) -> Tally:
        """Give what came after another."""
        return self._combined(other, -1)

    def _combined(self, other: Tally, sign: int) -> Tally:
        # Written out: it runs with every call, and dataclasses.astuple copies deeply.
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
    """Names a dialogue while it is played."""

    step: int
    scenario: str
    sample: int


_CURRENT: ContextVar[DialogueKey | None] = ContextVar("current_dialogue", default=None)


@contextmanager
def dialogue_costs(key: DialogueKey) -> Generator[None]:
    """Let the calls made inside, and in tasks started there, count for a dialogue."""
    token = _CURRENT.set(key)
    try:
        yield
    finally:
        _CURRENT.reset(token)


class Ledger:
    """Adds up what calls take. Consumes tallies, produces totals and, given a file, a line per dialogue.

    A run that is resumed goes on from the lines in its file. What a killed step spent on dialogues that never
    ended is in no line and lost to the count.

    Args:
        path: JSON lines; made when missing, never shortened. None keeps everything in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.phase = ""
        """What the calls are made for now: "train", "evaluate_before", "evaluate_after"."""
        self._path = path
        self._totals: dict[tuple[str, str], Tally] = {}
        self._open: dict[DialogueKey, dict[str, Tally]] = {}
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                for role, tally in row["roles"].items():
                    self._count(row["phase"], role, Tally(**tally))

    def add(self, role: str, tally: Tally) -> None:
        """Count calls of a role, for the dialogue that is being played, if any."""
        self._count(self.phase, role, tally)
        key = _CURRENT.get()
        if key is not None:
            roles = self._open.setdefault(key, {})
            roles[role] = roles.get(role, _NOTHING) + tally

    def close(self, key: DialogueKey) -> None:
        """Write the line of a dialogue that is over."""
        roles = self._open.pop(key, {})
        if self._path is not None:
            row = {"phase": self.phase, **asdict(key), "roles": {role: asdict(roles[role]) for role in roles}}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def totals(self, phases: Sequence[str] | None = None) -> Mapping[str, Tally]:
        """Give the totals by role.

        Args:
            phases: that count; None for all of them.
        """
        found: dict[str, Tally] = {}
        for (phase, role), tally in self._totals.items():
            if phases is None or phase in phases:
                found[role] = found.get(role, _NOTHING) + tally
        return found

    @property
    def phases(self) -> tuple[str, ...]:
        """What calls were made for so far, in order of their first call."""
        return tuple(dict.fromkeys(phase for phase, _ in self._totals))

    def _count(self, phase: str, role: str, tally: Tally) -> None:
        self._totals[phase, role] = self._totals.get((phase, role), _NOTHING) + tally


def total(tallies: Mapping[str, Tally]) -> Tally:
    """Add the roles up."""
    return sum(tallies.values(), _NOTHING)


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may spend. It is looked at between steps: the last step may pass it."""

    usd: float | None = None
    """Of all roles, evaluations included; None for no bound."""
    calls: int | None = None
    """Of actor, director and judge, failed ones included; None for no bound."""

    def __post_init__(self) -> None:
        """Refuse a budget that allows nothing."""
        for name in ("usd", "calls"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be > 0 or null; got {value}")

    def excess(self, spent: Mapping[str, Tally]) -> str | None:
        """Say what is used up, None when nothing is.

        Args:
            spent: by role.
        """
        usd = total(spent).usd
        if self.usd is not None and usd >= self.usd:
            return f"{usd:.2f} of {self.usd:g} USD are spent; raise budget.usd and --resume"
        calls = sum(tally.calls for role, tally in spent.items() if role != POLICY)
        if self.calls is not None and calls >= self.calls:
            return f"{calls} of {self.calls} calls are made; raise budget.calls and --resume"
        return None


class MeteredChat:
    """Asks another model and counts what it takes.

    Args:
        inner: who answers.
        ledger: where it is counted.
        role: for whom.
        price: of the model's tokens.
    """

    def __init__(self, inner: ChatModel, ledger: Ledger, role: str, price: Price) -> None:
        self._inner, self._ledger, self._role, self._price = inner, ledger, role, price

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        """Ask the inner model; raise what it raises.

        Raises:
            ChatError: from the inner model.
        """
        begin = time.perf_counter()
        # What stands unless an answer comes: the caller may give up, which is no exception of ours.
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
