"""Counts of each role's answers: usable at once, usable after a repair, or failed."""

from __future__ import annotations

import asyncio
import copy
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mica_ray.chat.model import ChatError, ChatModel, ChatReply, JsonSchema
from mica_ray.types import Message, Sampling, Stop, Trajectory


@dataclass(slots=True)
class RoleCount:
    """The answers of one role."""

    asked: int = 0
    """Answers requested; repairs are not counted."""
    repairs: int = 0
    """Answers requested again, once or more often, after an unusable one."""
    first_failures: int = 0
    """First requests that returned no answer."""
    failed: int = 0
    """Answers that never became usable."""
    unfound_evidence: int = 0
    """The judge's evidence texts that occur nowhere in the dialogue."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    """Summed over calls, which overlap: more than the elapsed time."""
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def repaired(self) -> int:
        """Answers that were usable after a repeated request."""
        return self.repairs + self.first_failures - self.failed

    @property
    def first(self) -> int:
        """Answers that were usable at once."""
        return self.asked - self.repairs - self.first_failures


class CountedChat:
    """A chat model that counts the requests to an inner model and returns its replies."""

    def __init__(self, inner: ChatModel, count: RoleCount, *, is_policy: bool = False) -> None:
        self._inner, self._count, self._is_policy = inner, count, is_policy
        self._askings: Counter[str] = Counter()

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        """Call the inner model; failures are counted and raised."""
        case = "" if self._is_policy else _case(messages)
        self._askings[case] += not self._is_policy
        is_repair = self._askings[case] > 1
        self._count.repairs += self._askings[case] == 2
        self._count.asked += not is_repair
        started = time.monotonic()
        try:
            reply = await self._inner.chat(messages, sampling, schema)
        except (ChatError, asyncio.CancelledError) as error:
            self._count.first_failures += not is_repair
            kind = error.kind if isinstance(error, ChatError) else "timeout"
            self._count.errors[f"call: {kind}"] += 1
            raise
        finally:
            self._count.seconds += time.monotonic() - started
        self._count.prompt_tokens += reply.prompt_tokens
        self._count.completion_tokens += reply.completion_tokens
        return reply


def _case(messages: Sequence[Message]) -> str:
    """Return a key of the answer that a role is asked for; repairs of one answer have equal keys.

    Later drafts of the Actor see less of the dialogue, but always its end, so only the end is used.
    """
    case = json.loads(str(messages[1]["content"]))
    if case["role"] == "actor":
        case["dialogue"] = [turn["reply"] for turn in case["dialogue"][-1:]]
    return json.dumps(case, ensure_ascii=False)


def with_failures(dialogues: Sequence[Trajectory], counts: Mapping[str, RoleCount]) -> dict[str, RoleCount]:
    """Return the counts with the answers added that never became usable, read from the dialogues."""
    counts = copy.deepcopy(dict(counts))
    for dialogue in dialogues:
        for turn in dialogue.turns:
            counts["judge"].unfound_evidence += turn.judgement.unfound_evidence
            if not turn.judgement.is_valid and not turn.is_silent:
                counts["judge"].failed += 1
                counts["judge"].errors[f"{turn.judgement.status}: {turn.judgement.error:.60}"] += 1
        counts["director"].failed += dialogue.director_failures
        if dialogue.stop is Stop.FAILED:
            role, reason = _failure(dialogue)
            counts[role].failed += 1
            counts[role].errors[f"dialogue ended: {reason:.60}"] += 1
    return counts


def _failure(dialogue: Trajectory) -> tuple[str, str]:
    """Return the role that ended a failed dialogue, and its reason."""
    for turn in dialogue.turns[-1:]:
        for answer in turn.answers:
            if answer.role == "actor" and answer.status.failure_kind:
                return "actor", answer.error or str(answer.status)
    error = dialogue.error or ""
    # An Actor that fails to open a dialogue leaves no turn to record its answer in.
    return ("actor" if not dialogue.turns and error.startswith("The actor of ") else "policy"), error
