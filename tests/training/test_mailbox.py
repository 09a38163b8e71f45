"""The mailbox between driver and workers, without Ray: it is a plain class."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from mica_ray.rollout.weights import PublishedBuckets, WeightBucket, resolve
from mica_ray.training.mailbox import Command, Mailbox, RestartPoint, WorkerReply
from mica_ray.types import PolicyWeights

if TYPE_CHECKING:
    from ray.actor import ActorHandle


def bucket(value: int) -> WeightBucket:
    return WeightBucket(names=(), shapes=(), dtypes=(), data=np.full(1, value, dtype=np.uint8))


async def ready(mailbox: Mailbox, version: int, value: int, start: str = "first") -> None:
    await mailbox.hold(start, bucket(value))
    await mailbox.ready(start, version)


async def answer(mailbox: Mailbox, index: int, reply: WorkerReply, value: int, start: str = "first") -> None:
    await mailbox.hold(start, bucket(value))
    await mailbox.answer(start, index, reply)


async def held(mailbox: Mailbox) -> list[int]:
    return [cast(WeightBucket, part).data[0] for part in await mailbox.weights()]


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
    await ready(mailbox, 0, 0)
    await answer(mailbox, 0, WorkerReply(1, {"loss": 1.0}), 1)
    await answer(mailbox, 1, WorkerReply(2, {"loss": 2.0}), 2)
    # The group restarts at version 0 and runs command 0 again.
    await ready(mailbox, 0, 0)
    await answer(mailbox, 0, WorkerReply(1, {"loss": 9.0}), 9)
    assert (await mailbox.wait(0)).metrics == {"loss": 1.0}
    assert await held(mailbox) == [2]


async def test_weights_are_the_buckets_of_one_start_of_the_group() -> None:
    mailbox = Mailbox()
    await mailbox.put(Command("update"))
    for value in (1, 2):
        await mailbox.hold("first", bucket(value))
    await mailbox.ready("first", 0)
    assert await held(mailbox) == [1, 2]
    # The first start dies while it sends. The second one sends everything, and only that counts.
    await mailbox.hold("first", bucket(3))
    await ready(mailbox, 0, 9, start="second")
    assert await held(mailbox) == [1, 2]
    for value in (5, 6):
        await mailbox.hold("second", bucket(value))
    await mailbox.hold("first", bucket(3))
    await mailbox.answer("second", 0, WorkerReply(1, {}))
    assert await held(mailbox) == [5, 6]


async def test_sender_may_reuse_the_memory_of_a_bucket() -> None:
    mailbox, sent = Mailbox(), bucket(1)
    await mailbox.hold("first", sent)
    sent.data[0] = 7
    await mailbox.ready("first", 0)
    assert await held(mailbox) == [1]


async def test_answers_count_the_starts_of_the_group() -> None:
    mailbox = Mailbox()
    await mailbox.put(Command("update"))
    await ready(mailbox, 0, 0)
    await ready(mailbox, 0, 0)
    await answer(mailbox, 0, WorkerReply(1, {}), 1)
    assert (await mailbox.wait(0)).num_starts == 2


async def test_restoring_may_take_the_weights_to_an_earlier_version() -> None:
    mailbox = Mailbox()
    await mailbox.put(Command("restore", "folder"))
    await ready(mailbox, 5, 5)
    await answer(mailbox, 0, WorkerReply(2, {}), 2)
    assert await held(mailbox) == [2]


async def test_batches_are_released_once_a_checkpoint_covers_them() -> None:
    mailbox = Mailbox()
    for number in range(6):
        await mailbox.put(Command("update", number))
    assert await mailbox.restart() == RestartPoint(0, "")
    await mailbox.checkpointed(RestartPoint(2, "first"))
    assert (await mailbox.take(2, wait_seconds=0)) == Command("update", 2)
    with pytest.raises(
        ValueError, match="Command 1 is no longer stored: a checkpoint continues at command 2"
    ):
        await mailbox.take(1, wait_seconds=0)
    await mailbox.checkpointed(RestartPoint(4, "second"))
    await mailbox.checkpointed(RestartPoint(3, "late"))
    assert await mailbox.restart() == RestartPoint(4, "second")
    assert (await mailbox.take(4, wait_seconds=0)) == Command("update", 4)


async def test_restarted_group_writes_only_incomplete_checkpoints_again() -> None:
    mailbox = Mailbox(num_ranks=2)
    for folder in ("first", "second"):
        index = await mailbox.put(Command("save", folder))
        await mailbox.answer("first", index, WorkerReply(3, {}))  # copied, but not written
    await mailbox.written(0, 0, "")
    await mailbox.written(0, 1, "")
    await mailbox.written(1, 0, "")
    assert (await mailbox.wait_written(0)).error == ""
    await mailbox.restart()
    assert await mailbox.take(0, wait_seconds=0) == Command("save", None)
    assert await mailbox.take(1, wait_seconds=0) == Command("save", "second")
    # The file that rank 0 wrote before the restart does not count.
    waiting = asyncio.create_task(mailbox.wait_written(1))
    await mailbox.written(1, 1, "no space")
    assert not waiting.done()
    await mailbox.written(1, 0, "")
    assert (await waiting).error == "no space"


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
    await mailbox.ready("first", 0)
    await mailbox.answer("first", 0, WorkerReply(0, {}))
    await mailbox.give_up(1, "the session is over")
    await mailbox.give_up(0, "too late to give up")
    taken = [await mailbox.take(index, wait_seconds=0) for index in range(3)]
    assert taken == [Command("send"), Command("send"), Command("send", "open")]
    assert [(await mailbox.wait(index)).error for index in (0, 1)] == ["", "the session is over"]


async def test_group_that_sends_its_weights_itself_is_ready_without_handing_them_over() -> None:
    mailbox = Mailbox()
    await mailbox.ready("first", 4)
    assert (await mailbox.wait_ready()).version == 4
    with pytest.raises(ValueError, match="no weights"):
        await mailbox.weights()


@pytest.mark.ray
def test_weights_outlive_the_worker_that_sent_them(ray_cluster: None) -> None:
    import ray

    mailbox = ray.remote(Mailbox).options(num_cpus=0).remote(1, ray.put)

    class Sender:
        def send(self, value: int) -> None:
            data = np.full(1 << 20, value, np.uint8)
            ray.get(mailbox.hold.remote("first", WeightBucket((), (), (), data)))

    sender = ray.remote(Sender).options(num_cpus=0).remote()
    ray.get([sender.send.remote(value) for value in (4, 5)], timeout=60)  # pyright: ignore[reportAttributeAccessIssue]
    ray.get(mailbox.ready.remote("first", 0), timeout=60)
    ray.kill(cast("ActorHandle", sender))
    weights = PolicyWeights(0, PublishedBuckets(mailbox.weights.remote()))
    assert [set(bucket.data) for bucket in resolve(weights)] == [{4}, {5}]
    # Memory of the object store, shared by all who read it.
    assert not any(bucket.data.flags.writeable for bucket in resolve(weights))
