"""Record the calls to a chat model, and replay them without the model.

A recording is a file of JSON lines. A call is found by a hash of its request, whatever the model. Every role
call of a dialogue has its own seed, so that concurrent calls are never confused.
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
from mica_ray.valid_text import decoded, valid_json

CallKey = tuple[str, int]
"""Hash of the request, and the number of equal calls before it."""
RecordedReply = ChatReply | ChatError | Literal["abandoned"]

_VERBATIM_MODEL_BEFORE_FIELD: Final = "scripted"
"""Model name of verbatim replies in recordings that are older than `ChatReply.is_verbatim`.

The Actor accepted every reply of this model when such a recording was made, so its replay must too.
"""

ABANDONED: Final = "abandoned"
"""The caller was cancelled: its deadline passed, or the run was stopped."""


def call_hash(messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None) -> str:
    """Return the hash of a request: 32 hex digits, equal for every model and machine."""
    fields = asdict(sampling)
    # Recordings that are older than the field have hashes without it.
    if not sampling.presence_penalty:
        del fields["presence_penalty"]
    asked = json.dumps(
        {"messages": list(messages), "sampling": fields, "schema": schema},
        sort_keys=True,
        ensure_ascii=True,
    )
    return hashlib.blake2b(asked.encode(), digest_size=16).hexdigest()


class RecordingChat:
    """A chat model that forwards to another model and records every call, failures included.

    Each line is written in one piece at the end of its call; a partial line from an earlier crash is removed.
    A call that the caller cancels is recorded as abandoned. Equal calls are numbered in the order in which
    they were made, after those already in the file. Only one writer per file at a time.

    Args:
        inner: the model that answers.
        path: the recording; created if missing, otherwise appended to.
    """

    def __init__(self, inner: ChatModel, path: Path) -> None:
        self._inner = inner
        self._path = path
        mend_lines(path)
        self._made = Counter(key for (key, _), _ in _lines(path))

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        """Return the inner model's answer and record the call.

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
        entry = valid_json({"call": key, "occurrence": occurrence, **outcome})
        append_line(self._path, json.dumps(entry, ensure_ascii=False).encode())


class ReplayChat:
    """A chat model that answers from a recording, equal calls in their original order.

    A call that exceeded its deadline when it was recorded times out at once. Two cases do not replay: a
    dialogue that exceeded its own deadline (RolloutConfig), and a recording that a resumed run appended to.

    Args:
        path: the recording.

    Raises:
        ValueError: the file does not exist, or one of its lines is not a recorded call.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ValueError(f"The recording {path} does not exist. Record it with RecordingChat first.")
        self._path = path
        self._outcomes = dict(_lines(path))
        self._made: Counter[str] = Counter()

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        """Return the recorded answer, or raise the recorded failure.

        Raises:
            ChatError: the call is not in the recording, or it failed when it was recorded.
            TimeoutError: the call was abandoned when it was recorded.
        """
        key = call_hash(messages, sampling, schema)
        occurrence = self._made[key]
        self._made[key] += 1
        outcome = self._outcomes.get((key, occurrence))
        if outcome is None:
            problem = (
                f"Call {key} (occurrence {occurrence}) is not in {self._path}. Record it with RecordingChat."
            )
            raise ChatError(problem, kind="refused", endpoint=str(self._path))
        if isinstance(outcome, ChatError):
            raise outcome
        if outcome == ABANDONED:
            raise TimeoutError(f"Call {key} was abandoned when it was recorded in {self._path}.")
        return outcome


def _lines(path: Path) -> Iterator[tuple[CallKey, RecordedReply]]:
    """Read a recording; a partial last line is ignored."""
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            entry = json.loads(decoded(line))
            outcome: RecordedReply = ABANDONED
            if ABANDONED not in entry:
                outcome = chat_error(**entry["error"]) if "error" in entry else _reply(entry["reply"])
            yield (entry["call"], entry["occurrence"]), outcome
        except (ValueError, KeyError, TypeError) as error:
            problem = f"{path}, line {number}: not a recorded call ({error!r})."
            raise ValueError(f"{problem} Remove the line, or record again.") from error


def _reply(fields: Mapping[str, Any]) -> ChatReply:
    is_verbatim = fields.get("is_verbatim", fields["model"] == _VERBATIM_MODEL_BEFORE_FIELD)
    return ChatReply(**{**fields, "is_verbatim": is_verbatim})
