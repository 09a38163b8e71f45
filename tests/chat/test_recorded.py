"""A replay returns exactly the recorded calls, failures included."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.chat.model import ChatError, ChatModel, ChatReply, JsonSchema
from mica_ray.chat.recorded import RecordingChat, ReplayChat, call_hash
from mica_ray.dialogue.answer import ParsedAnswer, ask
from mica_ray.types import Message, Sampling, Status
from tests.dialogue.tiny_domain import QueuedChat

ONE: list[Message] = [{"role": "user", "content": "Hello?"}]
OTHER: list[Message] = [{"role": "user", "content": "Grüße, 你好"}]


class Counting:
    """Answers 1, 2, 3, ...; raises for every call whose text is "no"."""

    def __init__(self) -> None:
        self.calls = 0

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        self.calls += 1
        number = self.calls
        # Later calls answer sooner: the order of answers is not the order of calls.
        await asyncio.sleep(0.02 / number)
        if messages[-1]["content"] == "no":
            raise ChatError("it said no", kind="content", endpoint="counting")
        return ChatReply(f"ü{number}", "counting", 5, 6, 0.25, 2)


class Silent:
    """Never answers."""

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        await asyncio.sleep(3600)
        return ChatReply("late", "silent")


async def test_replay_gives_the_whole_reply_without_the_model(tmp_path: Path) -> None:
    path = tmp_path / "calls" / "run.jsonl"
    recorded = await RecordingChat(Counting(), path).chat(OTHER, Sampling(seed=1), {"type": "object"})
    assert await ReplayChat(path).chat(OTHER, Sampling(seed=1), {"type": "object"}) == recorded


async def test_equal_calls_come_back_in_the_order_in_which_they_were_made(tmp_path: Path) -> None:
    chat = RecordingChat(Counting(), tmp_path / "run.jsonl")
    together = await asyncio.gather(*(chat.chat(ONE, Sampling()) for _ in range(3)))
    replay = ReplayChat(tmp_path / "run.jsonl")
    assert [reply.text for reply in together] == ["ü1", "ü2", "ü3"]
    assert [(await replay.chat(ONE, Sampling())).text for _ in range(3)] == ["ü1", "ü2", "ü3"]


async def test_recorded_failure_fails_again(tmp_path: Path) -> None:
    refused: list[Message] = [{"role": "user", "content": "no"}]
    with pytest.raises(ChatError):
        await RecordingChat(Counting(), tmp_path / "run.jsonl").chat(refused, Sampling())
    with pytest.raises(ChatError, match="it said no") as caught:
        await ReplayChat(tmp_path / "run.jsonl").chat(refused, Sampling())
    assert (caught.value.kind, caught.value.endpoint) == ("content", "counting")


async def test_call_given_up_by_its_role_is_given_up_again_at_once(tmp_path: Path) -> None:
    async def answer(model: ChatModel, seconds: float) -> ParsedAnswer[str]:
        return await ask(model, ONE, sampling=Sampling(), schema={}, read=str, deadline_seconds=seconds)

    path = tmp_path / "run.jsonl"
    recorded = await answer(RecordingChat(Silent(), path), 0.01)
    # A deadline that would fail the test by its time-out, were it waited for.
    replayed = await answer(ReplayChat(path), 3600.0)
    assert (recorded.status, recorded.error) == (Status.TIMED_OUT, "no answer within 0.01 s")
    assert (replayed.status, replayed.error) == (Status.TIMED_OUT, "no answer within 3600 s")


@pytest.mark.parametrize("is_verbatim", [True, False])
async def test_verbatim_mark_comes_back(is_verbatim: bool, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    inner = QueuedChat(ChatReply("That stings.", "scripted", is_verbatim=is_verbatim))
    recorded = await RecordingChat(inner, path).chat(ONE, Sampling())
    assert recorded == await ReplayChat(path).chat(ONE, Sampling())
    assert recorded.is_verbatim is is_verbatim


@pytest.mark.parametrize(("model", "is_verbatim"), [("scripted", True), ("some-model", False)])
async def test_recording_older_than_the_verbatim_mark_replays(
    model: str, is_verbatim: bool, tmp_path: Path
) -> None:
    path = tmp_path / "run.jsonl"
    reply = {"text": "That stings.", "model": model, "prompt_tokens": 0, "completion_tokens": 0}
    line = {"call": call_hash(ONE, Sampling(), None), "occurrence": 0, "reply": reply}
    path.write_text(json.dumps(line) + "\n")
    assert await ReplayChat(path).chat(ONE, Sampling()) == ChatReply(
        "That stings.", model, is_verbatim=is_verbatim
    )


async def test_half_a_surrogate_pair_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    halves: list[Message] = [{"role": "user", "content": "\ud83d"}]

    class Broken:
        async def chat(
            self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
        ) -> ChatReply:
            return ChatReply("\ud83d", "broken")

    await RecordingChat(Broken(), path).chat(halves, Sampling())
    assert (await ReplayChat(path).chat(halves, Sampling())).text == "\ufffd"


async def test_missing_call_names_its_hash_and_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    await RecordingChat(Counting(), path).chat(ONE, Sampling())
    replay = ReplayChat(path)
    await replay.chat(ONE, Sampling())
    with pytest.raises(ChatError, match=call_hash(ONE, Sampling(), None)) as caught:
        await replay.chat(ONE, Sampling())
    assert str(path) in str(caught.value)
    assert "occurrence 1" in str(caught.value)


async def test_later_recording_adds_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    first, second = Counting(), Counting()
    second.calls = 10
    await RecordingChat(first, path).chat(ONE, Sampling())
    await RecordingChat(second, path).chat(ONE, Sampling())
    replay = ReplayChat(path)
    assert [(await replay.chat(ONE, Sampling())).text for _ in range(2)] == ["ü1", "ü11"]


async def test_line_that_a_crash_left_unfinished_is_lost_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    await RecordingChat(Counting(), path).chat(ONE, Sampling())
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:25])
    assert (await ReplayChat(path).chat(ONE, Sampling())).text == "ü1"
    await RecordingChat(Counting(), path).chat(OTHER, Sampling())
    assert [json.loads(line)["occurrence"] for line in path.read_text().splitlines()] == [0, 0]


@pytest.mark.parametrize(
    "line", ["[]", "{}", "nonsense", '{"call": "a", "occurrence": 0, "reply": {"words": 3}}']
)
def test_foreign_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(f"{line}\n")
    with pytest.raises(ValueError, match="line 1"):
        ReplayChat(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        ReplayChat(tmp_path / "nowhere.jsonl")


def test_recordings_without_a_presence_penalty_stay_readable() -> None:
    one: list[Message] = [{"role": "user", "content": "one"}]
    # The hash of this call before sampling had a presence penalty.
    assert call_hash(one, Sampling(seed=3), None) == "46d5886cc54dbfa30ba7a2c15f8bc88c"
    penal = [call_hash(one, Sampling(seed=3, presence_penalty=value), None) for value in (0.0, 1.0, 1.5)]
    assert penal[0] == "46d5886cc54dbfa30ba7a2c15f8bc88c" and len(set(penal)) == 3


@settings(deadline=None, max_examples=40)
@given(text=st.text(max_size=20), seed=st.none() | st.integers(0, 9), temperature=st.floats(0, 2))
def test_hash_depends_on_what_is_asked_and_on_nothing_else(
    text: str, seed: int | None, temperature: float
) -> None:
    messages: list[Message] = [{"role": "user", "content": text}]
    sampling = Sampling(temperature=temperature, seed=seed)
    key = call_hash(messages, sampling, None)
    assert key == call_hash(tuple(messages), Sampling(temperature=temperature, seed=seed), None)
    assert key != call_hash([*messages, *messages], sampling, None)
    assert key != call_hash(messages, sampling, {})
    assert key != call_hash([{"role": "user", "content": f"{text}."}], sampling, None)
