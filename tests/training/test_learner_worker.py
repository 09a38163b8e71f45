"""One rank of a worker group over a mailbox in this process: checkpoints, restarts, errors."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import pytest
import torch

from mica_ray.rollout.weights import TransferSession, WeightBucket, resolve
from mica_ray.training.learner_group import RayLearnerConfig
from mica_ray.training.learner_worker import LearnerWorker
from mica_ray.training.local_learner import LocalLearner
from mica_ray.training.mailbox import Command, Mailbox, RestartPoint, WorkerReply
from mica_ray.training.sharded.shares import RankShare
from mica_ray.training.update import LearnerConfig, batch_shares
from tests.tiny_policy import random_batch, write_tiny_policy

pytestmark = pytest.mark.usefixtures("group")

T = TypeVar("T")
CONFIG = LearnerConfig(learning_rate=1e-3, total_updates=8)
GROUP = RayLearnerConfig(zero_stage=0, checkpoint_every=20)


class WorkerKilled(Exception):
    """Stands for the death of the process."""


class MailboxPost:
    """`Post` over a mailbox in the test's event loop; the worker runs in a thread."""

    def __init__(self, mailbox: Mailbox, *, dies_at: int | None = None) -> None:
        self.mailbox, self.dies_at = mailbox, dies_at
        self.loop = asyncio.get_running_loop()
        self.taken: list[int] = []

    def call(self, coroutine: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=60)

    def take(self, index: int) -> Command:
        if index == self.dies_at:
            raise WorkerKilled
        self.taken.append(index)
        command = self.call(self.mailbox.take(index, wait_seconds=60))
        assert command is not None
        return command

    def share(self, command: Command, rank: int) -> RankShare:
        return cast(list[RankShare], command.payload)[rank]

    def hold(self, bucket: WeightBucket) -> None:
        self.call(self.mailbox.hold(str(id(self)), bucket))

    def ready(self, version: int) -> None:
        self.call(self.mailbox.ready(str(id(self)), version))

    def send(self, buckets: Sequence[WeightBucket], session: TransferSession) -> None:
        raise NotImplementedError

    def written(self, index: int, rank: int, line: str) -> None:
        self.call(self.mailbox.written(index, rank, line))

    def answer(self, index: int, answer: WorkerReply) -> None:
        self.call(self.mailbox.answer(str(id(self)), index, answer))

    def checkpointed(self, point: RestartPoint) -> None:
        self.call(self.mailbox.checkpointed(point))

    def restart(self) -> RestartPoint:
        return self.call(self.mailbox.restart())


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_tiny_policy(tmp_path_factory.mktemp("policy"))


def update(seed: int) -> Command:
    return Command("update", batch_shares(random_batch(seed), CONFIG, world_size=1))


async def play(post: MailboxPost, policy: Path, folder: Path, group: RayLearnerConfig = GROUP) -> list[int]:
    """Run a worker until it stops or dies; return the commands that it took."""

    def serve() -> None:
        LearnerWorker(post, policy, CONFIG, group, folder=folder, rank=0, world_size=1).serve()

    if post.dies_at is None:
        await asyncio.to_thread(serve)
    else:
        with pytest.raises(WorkerKilled):
            await asyncio.to_thread(serve)
    return post.taken


async def put(mailbox: Mailbox, *commands: Command) -> None:
    for command in commands:
        await mailbox.put(command)


def after(policy: Path, *seeds: int) -> np.ndarray:
    learner = LocalLearner(policy, CONFIG)
    for seed in seeds:
        learner.update(random_batch(seed))
    return resolve(learner.weights())[0].data


async def weights(mailbox: Mailbox) -> np.ndarray:
    (bucket,) = await mailbox.weights()
    return cast(WeightBucket, bucket).data


@pytest.mark.parametrize("background", [False, True])
async def test_restarted_worker_continues_from_the_checkpoint_of_the_run(
    policy: Path, tmp_path: Path, background: bool
) -> None:
    group, mailbox = replace(GROUP, background_checkpoints=background), Mailbox()
    await put(mailbox, update(0), update(1), Command("save", str(tmp_path / "partial")))
    assert await play(MailboxPost(mailbox, dies_at=3), policy, tmp_path, group) == [0, 1, 2]
    assert (await mailbox.wait_written(2)).error == ""
    (tmp_path / "partial").rename(tmp_path / "final")
    await mailbox.checkpointed(RestartPoint(3, str(tmp_path / "final")))

    await put(mailbox, update(2), Command("stop"))
    assert await play(MailboxPost(mailbox), policy, tmp_path, group) == [3, 4]
    assert (await mailbox.wait(3)).version == 3
    np.testing.assert_array_equal(await weights(mailbox), after(policy, 0, 1, 2))


async def test_group_writes_its_own_checkpoint_if_the_run_writes_none(policy: Path, tmp_path: Path) -> None:
    group, mailbox = replace(GROUP, checkpoint_every=2), Mailbox()
    await put(mailbox, *(update(seed) for seed in range(4)), Command("stop"))
    await play(MailboxPost(mailbox, dies_at=3), policy, tmp_path, group)
    assert [path.name for path in tmp_path.iterdir()] == ["version-000002"]
    # Update 2 came after the checkpoint and runs again.
    assert await play(MailboxPost(mailbox), policy, tmp_path, group) == [2, 3, 4]
    assert await mailbox.restart() == RestartPoint(4, str(tmp_path / "version-000004"))
    assert [path.name for path in tmp_path.iterdir()] == ["version-000004"]
    np.testing.assert_array_equal(await weights(mailbox), after(policy, 0, 1, 2, 3))


async def test_checkpoint_of_the_run_spares_the_group_its_own(policy: Path, tmp_path: Path) -> None:
    group, mailbox = replace(GROUP, checkpoint_every=2), Mailbox()
    save = Command("save", str(tmp_path / "run"))
    await put(mailbox, update(0), save, update(1), Command("stop"))
    await play(MailboxPost(mailbox), policy, tmp_path, group)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


async def test_incomplete_checkpoint_is_written_again_after_a_restart(policy: Path, tmp_path: Path) -> None:
    mailbox = Mailbox(num_ranks=2)  # The other rank never reports its part.
    await put(mailbox, update(0), Command("save", str(tmp_path / "run")), Command("stop"))
    await play(MailboxPost(mailbox, dies_at=2), policy, tmp_path)
    (tmp_path / "run" / "learner.json").unlink()
    assert await play(MailboxPost(mailbox), policy, tmp_path) == [0, 1, 2]
    assert (tmp_path / "run" / "learner.json").is_file()


async def test_folder_that_cannot_be_written_is_named_and_training_goes_on(
    policy: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    mailbox = Mailbox()
    await put(mailbox, Command("save", str(tmp_path / "file")), update(0), Command("stop"))
    await play(MailboxPost(mailbox), policy, tmp_path)
    problem = (await mailbox.wait_written(0)).error
    assert problem.startswith(f"Learner worker 0 cannot write {tmp_path / 'file'} (")
    assert (await mailbox.wait(1)).version == 1


async def test_restored_checkpoint_is_where_a_restart_continues(policy: Path, tmp_path: Path) -> None:
    mailbox, saved = Mailbox(), str(tmp_path / "run")
    await put(mailbox, update(0), Command("save", saved), update(1), Command("restore", saved), update(2))
    await play(MailboxPost(mailbox, dies_at=5), policy, tmp_path)
    await put(mailbox, Command("stop"))
    assert await play(MailboxPost(mailbox), policy, tmp_path) == [4, 5]
    assert (await mailbox.wait(4)).version == 2
    np.testing.assert_array_equal(await weights(mailbox), after(policy, 0, 2))
