"""The mailbox between driver and workers, without Ray: it is a plain class."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from mica_ray.rollout.weights import WeightBucket
from mica_ray.training.mailbox import Command, Mailbox, WorkerReply


def bucket(value: int) -> WeightBucket:
    return WeightBucket(names=(), shapes=(), dtypes=(), data=np.full(1, value, dtype=np.uint8))


async def test_worker_gets_the_command_that_comes_while_it_waits() -> None:
    mailbox = Mailbox()
    taking = asyncio.create_task(mailbox.take(0, wait_seconds=5))
    await asyncio.sleep(0)
    assert await mailbox.put(Command("update", "batch")) == 0
    assert await taking == Command("update", "batch")


async def test_worker_is_told_when_there_is_no_command_yet() -> None:
    assert await Mailbox().take(0, wait_seconds=0.01) is None


async def test_second_answer_after_a_restart_changes_nothing() -> None:
    mailbox = Mailbox()
    for _ in range(2):
        await mailbox.put(Command("update"))
    await mailbox.ready(0, bucket(0))
    await mailbox.answer(0, WorkerReply(1, {"loss": 1.0}), bucket(1))
    await mailbox.answer(1, WorkerReply(2, {"loss": 2.0}), bucket(2))
    # The group restarts at version 0 and runs command 0 again.
    await mailbox.ready(0, bucket(0))
    await mailbox.answer(0, WorkerReply(1, {"loss": 9.0}), bucket(9))
    assert (await mailbox.wait(0)).metrics == {"loss": 1.0}
    assert (await mailbox.weights()).data[0] == 2


async def test_answers_count_the_starts_of_the_group() -> None:
    mailbox = Mailbox()
    await mailbox.put(Command("update"))
    await mailbox.ready(0, bucket(0))
    await mailbox.ready(0, bucket(0))
    await mailbox.answer(0, WorkerReply(1, {}), bucket(1))
    assert (await mailbox.wait(0)).num_starts == 2


async def test_restoring_may_take_the_weights_to_an_earlier_version() -> None:
    mailbox = Mailbox()
    await mailbox.put(Command("restore", "folder"))
    await mailbox.ready(5, bucket(5))
    await mailbox.answer(0, WorkerReply(2, {}), bucket(2))
    assert (await mailbox.weights()).data[0] == 2


async def test_batches_are_kept_back_to_the_last_but_one_checkpoint() -> None:
    mailbox = Mailbox()
    for number in range(6):
        await mailbox.put(Command("update", number))
    await mailbox.checkpointed(2)
    assert (await mailbox.take(0, wait_seconds=0)) == Command("update", 0)
    await mailbox.checkpointed(4)
    assert (await mailbox.take(2, wait_seconds=0)) == Command("update", 2)
    with pytest.raises(ValueError, match="Command 1 is no longer stored"):
        await mailbox.take(1, wait_seconds=0)


async def test_error_of_a_worker_wakes_everyone_who_waits() -> None:
    mailbox = Mailbox()
    waiting = [asyncio.create_task(mailbox.wait(0)), asyncio.create_task(mailbox.wait_ready())]
    await asyncio.sleep(0)
    await mailbox.fail("first")
    await mailbox.fail("second")
    assert [answer.error for answer in await asyncio.gather(*waiting)] == ["first", "first"]


async def test_restarted_group_passes_by_a_session_that_is_over() -> None:
    mailbox = Mailbox()
    await mailbox.put(Command("send", "done"))
    await mailbox.put(Command("send", "given up"))
    await mailbox.put(Command("send", "open"))
    await mailbox.ready(0, None)
    await mailbox.answer(0, WorkerReply(0, {}))
    await mailbox.give_up(1, "the session is over")
    await mailbox.give_up(0, "too late to give up")
    taken = [await mailbox.take(index, wait_seconds=0) for index in range(3)]
    assert taken == [Command("send"), Command("send"), Command("send", "open")]
    assert [(await mailbox.wait(index)).error for index in (0, 1)] == ["", "the session is over"]


async def test_group_that_sends_its_weights_itself_is_ready_without_handing_them_over() -> None:
    mailbox = Mailbox()
    await mailbox.ready(4, None)
    assert (await mailbox.wait_ready()).version == 4
    with pytest.raises(ValueError, match="no weights"):
        await mailbox.weights()
