"""Record calls to a chat model, and replay them without it: for tests, and for re-runs that cost nothing.

A recording is a file of JSON lines. A call is found by what was asked, not by who was asked; since every
role call of a dialogue has its own seed, calls made at the same time are never confused.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal

from mica_ray.chat.model import ChatError, ChatModel, ChatReply, JsonSchema, chat_error
from mica_ray.files import append_line, mend_lines
from mica_ray.types import Message, Sampling

CallKey = tuple[str, int]
"""Hash of what was asked, and how many equal calls came before."""
RecordedReply = ChatReply | ChatError | Literal["abandoned"]

_VERBATIM_MODEL_BEFORE_FIELD: Final = "scripted"
"""Model name of verbatim replies in recordings that are older than `ChatReply.is_verbatim`.

The Actor accepted every reply of this model when such a recording was made, so its replay must too.
"""

ABANDONED: Final = "abandoned"
"""Who asked waited no longer: its deadline passed, or the run was stopped."""


def call_hash(messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None) -> str:
    """Give the content hash of a call: 32 hex digits, the same for every model and on every machine."""
    asked = json.dumps(
        {"messages": list(messages), "sampling": asdict(sampling), "schema": schema},
        sort_keys=True,
        ensure_ascii=True,
    )
    return hashlib.blake2b(asked.encode(), digest_size=16).hexdigest()


class RecordingChat:
    """Asks another model and writes every call down, failures included. One writer per file at a time.

    A line is written in one piece when its call is over; a line that an earlier crash left unfinished is cut
    off. A call that its asker gives up, because the asker's own deadline has passed, is written down as such.
    Equal calls are numbered in the order in which they were made, after those already in the file.

    Args:
        inner: who answers.
        path: the recording; made when it does not exist, added to when it does.
    """

    def __init__(self, inner: ChatModel, path: Path) -> None:
        self._inner = inner
        self._path = path
        mend_lines(path)
        self._made = Counter(key for (key, _), _ in _lines(path))

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        """Ask the inner model; raise what it raises.

        Raises:
            ChatError: from the inner model.
        """
        key = call_hash(messages, sampling, schema)
        occurrence = self._made[key]
        self._made[key] += 1
        try:
            reply = await self._inner.chat(messages, sampling, schema)
        except asyncio.CancelledError:
            self._write(key, occurrence, {ABANDONED: True})
            raise
        except ChatError as error:
            failure = {
                "message": str(error),
                "kind": error.kind,
                "endpoint": error.endpoint,
                "prompt_tokens": error.prompt_tokens,
                "completion_tokens": error.completion_tokens,
            }
            self._write(key, occurrence, {"error": failure})
            raise
        self._write(key, occurrence, {"reply": asdict(reply)})
        return reply

    def _write(self, key: str, occurrence: int, outcome: Mapping[str, object]) -> None:
        line = json.dumps({"call": key, "occurrence": occurrence, **outcome}, ensure_ascii=False)
        # A model may write half a surrogate pair, which strict UTF-8 refuses and json reads.
        append_line(self._path, line.encode("utf-8", "surrogatepass"))


class ReplayChat:
    """Answers from a recording, equal calls in the order in which they were made.

    A role, and a policy, whose deadline passed when it was recorded is told so at once. What does not replay:
    a dialogue that ran into its own deadline (RolloutConfig), and a recording to which a resumed run added.

    Args:
        path: the recording.

    Raises:
        ValueError: there is no such file, or a line of it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ValueError(f"there is no recording {path}: make it with RecordingChat")
        self._path = path
        self._outcomes = dict(_lines(path))
        self._made: Counter[str] = Counter()

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        """Give the recorded answer, or raise the recorded failure.

        Raises:
            ChatError: the call is not in the recording, or it failed when it was recorded.
            TimeoutError: its asker gave it up when it was recorded.
        """
        key = call_hash(messages, sampling, schema)
        occurrence = self._made[key]
        self._made[key] += 1
        outcome = self._outcomes.get((key, occurrence))
        if outcome is None:
            problem = (
                f"call {key} (occurrence {occurrence}) is not in {self._path}: record it with RecordingChat"
            )
            raise ChatError(problem, kind="refused", endpoint=str(self._path))
        if isinstance(outcome, ChatError):
            raise outcome
        if outcome == ABANDONED:
            raise TimeoutError(f"call {key} was given up when it was recorded in {self._path}")
        return outcome


def _lines(path: Path) -> Iterator[tuple[CallKey, RecordedReply]]:
    """Read a recording; an unfinished last line is passed over."""
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            entry = json.loads(line)
            outcome: RecordedReply = ABANDONED
            if ABANDONED not in entry:
                outcome = chat_error(**entry["error"]) if "error" in entry else _reply(entry["reply"])
            yield (entry["call"], entry["occurrence"]), outcome
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: not a recorded call ({error!r})") from error


def _reply(fields: Mapping[str, Any]) -> ChatReply:
    is_verbatim = fields.get("is_verbatim", fields["model"] == _VERBATIM_MODEL_BEFORE_FIELD)
    return ChatReply(**{**fields, "is_verbatim": is_verbatim})
