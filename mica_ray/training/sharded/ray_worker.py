"""One worker of the Ray learner's group: a rank of learner_worker.py, connected to the mailbox.

The driver's side is in ray_learner.py.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import ray
import ray.train

from mica_ray.memory_errors import memory_line
from mica_ray.rollout.weight_transfer import WeightBroadcaster
from mica_ray.rollout.weights import TransferRoute, TransferSession, WeightBucket
from mica_ray.training.learner import LearnerError
from mica_ray.training.learner_group import RayLearnerConfig
from mica_ray.training.mailbox import Command, Mailbox, RestartPoint, WorkerReply
from mica_ray.training.memory.group_failure import worker_failure
from mica_ray.training.sharded.shares import RankShare
from mica_ray.training.update import LearnerConfig

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorProxy

_POLL_SECONDS = 30.0
"""How long one call of a worker waits for its next command before it asks again."""
CALL_SECONDS = 120.0
"""Longest wait for the mailbox itself, which replies at once."""

_FINAL_ERRORS = (
    LearnerError,
    ValueError,
    TypeError,
    LookupError,
    ImportError,
    FileNotFoundError,
)
"""Errors that a restart cannot fix. A dead rank raises RuntimeError, or a failed assertion in DeepSpeed."""


@dataclass(frozen=True, slots=True)
class GroupJob:
    """The arguments of every worker."""

    mailbox: ActorProxy[Mailbox]
    policy: str
    learner: LearnerConfig
    group: RayLearnerConfig
    folder: str
    """For checkpoints of the group itself."""
    route: TransferRoute | None


def work(settings: Mapping[str, GroupJob]) -> None:
    """Run one worker of the group.

    An error that a restart cannot fix is reported to the driver; any other is raised and restarts the group.
    """
    import torch

    from mica_ray.training.learner_worker import LearnerWorker

    job, context = settings["job"], ray.train.get_context()
    rank = context.get_world_rank()
    torch.set_num_threads(max(1, int(job.group.cpus_per_worker)))
    try:
        LearnerWorker(
            _RayPost(job.mailbox, WeightBroadcaster(), uuid.uuid4().hex),
            Path(job.policy),
            job.learner,
            job.group,
            folder=Path(job.folder),
            rank=rank,
            world_size=context.get_world_size(),
            is_sender=job.route is not None,
        ).serve()
    except Exception as error:
        # A restarted group would run out of memory at the same batch again.
        if not isinstance(error, _FINAL_ERRORS) and not memory_line(error):
            raise
        ray.get(job.mailbox.fail.remote(worker_failure(error, rank)), timeout=CALL_SECONDS)


@dataclass(frozen=True, slots=True)
class _RayPost:
    """`Post` over the mailbox."""

    mailbox: ActorProxy[Mailbox]
    broadcaster: WeightBroadcaster
    start: str
    """Name of this start of the worker."""

    def take(self, index: int) -> Command:
        """Wait for a command, in calls of `_POLL_SECONDS`."""
        while True:
            reference = self.mailbox.take.remote(index, wait_seconds=_POLL_SECONDS)
            command = cast(Command | None, ray.get(reference, timeout=CALL_SECONDS))
            if command is not None:
                return command

    def share(self, command: Command, rank: int) -> RankShare:
        """Fetch this rank's part from the object store, and no other."""
        references = cast(list["ObjectRef"], command.payload)
        return cast(RankShare, ray.get(references[rank], timeout=CALL_SECONDS))

    def send(self, buckets: Sequence[WeightBucket], session: TransferSession) -> None:
        """Send through vLLM's weight transfer."""
        self.broadcaster.send(buckets, session)

    def hold(self, bucket: WeightBucket) -> None:
        """Store the bucket in the object store, owned by the mailbox: it survives this worker."""
        ray.get(self.mailbox.hold.remote(self.start, bucket), timeout=CALL_SECONDS)

    def ready(self, version: int) -> None:
        """Report the start to the mailbox."""
        ray.get(self.mailbox.ready.remote(self.start, version), timeout=CALL_SECONDS)

    def answer(self, index: int, answer: WorkerReply) -> None:
        """Store the reply in the mailbox."""
        ray.get(self.mailbox.answer.remote(self.start, index, answer), timeout=CALL_SECONDS)

    def checkpointed(self, point: RestartPoint) -> None:
        """Report the checkpoint to the mailbox."""
        ray.get(self.mailbox.checkpointed.remote(point), timeout=CALL_SECONDS)

    def written(self, index: int, rank: int, line: str) -> None:
        """Report the files of a rank to the mailbox."""
        ray.get(self.mailbox.written.remote(index, rank, line), timeout=CALL_SECONDS)

    def restart(self) -> RestartPoint:
        """Return the newest checkpoint that the mailbox knows."""
        return cast(RestartPoint, ray.get(self.mailbox.restart.remote(), timeout=CALL_SECONDS))
