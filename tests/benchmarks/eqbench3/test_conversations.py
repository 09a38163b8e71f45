"""Playing: the whole history is sent, every reply is kept, and a failed call is repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mica_ray.benchmarks.answers import AnswerLog
from mica_ray.benchmarks.eqbench3.conversations import (
    SAMPLING,
    find_conversation,
    num_replies_done,
    play_items,
)
from mica_ray.benchmarks.eqbench3.items import EqBench3
from mica_ray.chat.model import ChatError, ChatReply, ErrorKind, JsonSchema
from mica_ray.types import Message, Sampling
from tests.benchmarks.eqbench3.small_benchmark import item_of, write_benchmark


class Counting:
    """Answers with the number of messages that it saw; can fail or be empty at a length of the history."""

    def __init__(self, failures: Mapping[int, ErrorKind] | None = None, *, empty_at: int = 0) -> None:
        self.failures: Mapping[int, ErrorKind] = failures or {}
        self.empty_at = empty_at
        self.seen: list[Sequence[Message]] = []
        self.samplings: list[Sampling] = []

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        self.seen.append(list(messages))
        self.samplings.append(sampling)
        if kind := self.failures.get(len(messages)):
            raise ChatError("no reply", kind=kind, endpoint="counting")
        return ChatReply(
            " \n" if len(messages) == self.empty_at else f"reply {len(messages)}", model="counting"
        )


async def play(
    data: EqBench3, log: AnswerLog, model: Counting, kind: str = "role-play"
) -> tuple[tuple[ChatError, ...], int]:
    advanced: list[int] = []
    wanted = [(item, 0) for item in data.items if item.kind == kind]
    failures = await play_items(
        data, wanted, model, SAMPLING, find=log.find, record=log.record, advance=advanced.append
    )
    return failures, sum(advanced)


async def test_history_grows_by_turn_and_ends_with_the_debrief(tmp_path: Path) -> None:
    data, log, model = (
        EqBench3(write_benchmark(tmp_path / "data")),
        AnswerLog(tmp_path / "out", {}),
        Counting(),
    )
    assert await play(data, log, model) == ((), 3)
    assert [[message["role"] for message in seen] for seen in model.seen] == [
        ["user"], ["user", "assistant", "user"], ["user", "assistant", "user", "assistant", "user"]
    ]  # fmt: skip
    assert model.seen[2][3]["content"] == "reply 3" and model.seen[2][4]["content"] == "How did it go?"
    found = find_conversation(data, item_of(data, "role-play"), 0, log.find)
    assert found is not None
    assert (found.replies, found.debrief, found.problem) == (("reply 1", "reply 3"), "reply 5", None)
    assert {sampling.temperature for sampling in model.samplings} == {0.7}
    assert len({sampling.seed for sampling in model.samplings}) == 3


async def test_failed_call_is_repeated_where_it_failed(tmp_path: Path) -> None:
    data, log = EqBench3(write_benchmark(tmp_path / "data")), AnswerLog(tmp_path / "out", {})
    failures, advanced = await play(data, log, Counting({3: "timeout"}))
    item = item_of(data, "role-play")
    assert [error.kind for error in failures] == ["timeout"] and advanced == 1
    assert find_conversation(data, item, 0, log.find) is None
    again = AnswerLog(tmp_path / "out", {})
    assert num_replies_done(data, item, 0, again.find) == 1
    model = Counting()
    assert await play(data, again, model) == ((), 2)
    assert [len(seen) for seen in model.seen] == [3, 5]
    assert num_replies_done(data, item, 0, again.find) == 3


async def test_unusable_reply_ends_the_conversation_for_good(tmp_path: Path) -> None:
    data = EqBench3(write_benchmark(tmp_path / "data"))
    item = item_of(data, "role-play")
    cut_off: Mapping[int, ErrorKind] = {3: "content"}
    for number, model in enumerate((Counting(empty_at=3), Counting(cut_off))):
        log = AnswerLog(tmp_path / str(number), {})
        assert await play(data, log, model) == ((), 3)  # No turn needs another call.
        found = find_conversation(data, item, 0, log.find)
        assert found is not None and found.problem is not None and found.problem.startswith("turn 2: ")
        assert (found.replies, found.debrief) == (("reply 1",), None)
        assert num_replies_done(data, item, 0, log.find) == 3
        again = Counting()
        await play(data, log, again)
        assert again.seen == []


async def test_analysis_has_one_turn_and_no_debrief(tmp_path: Path) -> None:
    data, log, model = (
        EqBench3(write_benchmark(tmp_path / "data")),
        AnswerLog(tmp_path / "out", {}),
        Counting(),
    )
    assert await play(data, log, model, "analysis") == ((), 1)
    found = find_conversation(data, item_of(data, "analysis"), 0, log.find)
    assert found is not None and (found.replies, found.debrief) == (("reply 1",), None)
