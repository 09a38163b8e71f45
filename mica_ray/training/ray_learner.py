"""`Learner` over a Ray Train group. The driver owns the loop; `fit()` runs in a thread.

A mailbox actor (mailbox.py) carries commands to the workers and replies back. One rank is learner_worker.py.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import ray
import ray.train

from mica_ray.error_lines import first_line
from mica_ray.rollout.weight_transfer import WeightBroadcaster
from mica_ray.rollout.weights import PublishedBucket, TransferRoute, TransferSession, WeightBucket
from mica_ray.training.learner import LearnerError
from mica_ray.training.learner_group import RayLearnerConfig
from mica_ray.training.mailbox import Command, Mailbox, WorkerReply
from mica_ray.training.memory.group_failure import group_failure
from mica_ray.training.update import LearnerConfig
from mica_ray.types import PolicyWeights, TokenBatch, UpdateReport

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle, ActorProxy

_POLL_SECONDS = 30.0
"""How long one call of a worker waits for its next command before it asks again."""
_CALL_SECONDS = 120.0
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

__all__ = ["RayLearner", "RayLearnerConfig"]

# Ray Train's defaults poll the group every 2 s and abort a start after 60 s, too early for two busy cores.
_TRAIN_SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "240",
}


@dataclass(frozen=True, slots=True)
class _Job:
    """The arguments of every worker."""

    mailbox: ActorProxy[Mailbox]
    policy: str
    learner: LearnerConfig
    group: RayLearnerConfig
    route: TransferRoute | None


class RayLearner:
    """`Learner` over a Ray Train group. Consumes token batches, produces weights.

    The constructor starts the group in the background; the first call that needs it waits. Every wait for the
    workers has a deadline.
    """

    def __init__(
        self,
        policy: Path,
        config: LearnerConfig,
        group: RayLearnerConfig,
        *,
        folder: Path,
        route: TransferRoute | None = None,
    ) -> None:
        """Start the group.

        Args:
            policy: model folder in Hugging Face form, visible on every node.
            config: optimizer, schedule and loss.
            group: number of workers and their resources.
            folder: for Ray Train's own checkpoints, visible on every node; older ones in it are removed.
            route: how rank 0 sends weights directly to the engines; None uses the object store.
        """
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("group-*"):
            shutil.rmtree(stale, ignore_errors=True)
        for name, setting in _TRAIN_SETTINGS.items():
            os.environ.setdefault(name, setting)
        self._config = group
        self._mailbox = ray.remote(Mailbox).options(num_cpus=0, max_concurrency=1000).remote()
        self._version: int | None = None
        self._ended = ""
        self._route = route
        job = _Job(
            mailbox=self._mailbox, policy=str(policy.absolute()), learner=config, group=group, route=route
        )
        self._thread = threading.Thread(
            target=self._fit, args=(job, folder), name="learner group", daemon=True
        )
        self._thread.start()

    def update(self, batch: TokenBatch) -> UpdateReport:
        """Send the batch to every worker and wait for rank 0's report.

        Raises:
            LearnerError: the group ended, had an error that a restart cannot fix, or missed its deadline.
        """
        self._start()
        answer = self._do(Command("update", [ray.put(batch)]), "update")
        return UpdateReport(
            answer.version, {**answer.metrics, "worker_restarts": float(answer.num_starts - 1)}
        )

    def weights(self) -> PolicyWeights:
        """Return the newest weights by reference; they never pass through the driver."""
        version = self._start()
        if self._route is not None:
            return PolicyWeights(version, _RankZero(self._mailbox, self._route))
        return PolicyWeights(version, PublishedBucket(self._mailbox.weights.remote()))

    def save(self, directory: Path) -> None:
        """Write a checkpoint with the group and copy it: `policy/`, `engine/`, `learner.json`."""
        self._start()
        answer = self._do(Command("save"), "save")
        ray.train.Checkpoint.from_directory(answer.folder).to_directory(str(directory))

    def restore(self, directory: Path) -> None:
        """Restore in every worker what `save` wrote.

        Raises:
            LearnerError: the folder has another model, ZeRO stage or number of workers.
        """
        self._start()
        self._do(Command("restore", str(directory.absolute())), "restore")

    def close(self) -> None:
        """Stop the group, its thread and the mailbox. Wait less after an error: a rank may hang."""
        if self._thread.is_alive():
            ray.get(self._mailbox.put.remote(Command("stop")), timeout=_CALL_SECONDS)
            self._thread.join(timeout=15.0 if self._ended else 60.0)
        ray.kill(cast("ActorHandle[Mailbox]", self._mailbox))

    def _start(self) -> int:
        """Wait until the group runs; return the version of its weights."""
        if self._version is None:
            reference = self._mailbox.wait_ready.remote()
            self._version = self._checked(self._call(reference, self._config.start_seconds, "start")).version
        return self._version

    def _do(self, command: Command, what: str) -> WorkerReply:
        """Append a command and wait for the reply."""
        index = ray.get(self._mailbox.put.remote(command), timeout=_CALL_SECONDS)
        reference = self._mailbox.wait.remote(index)
        answer = self._checked(self._call(reference, self._config.update_seconds, what))
        self._version = answer.version
        return answer

    def _call(self, reference: ObjectRef, seconds: float, what: str) -> object:
        """Wait for the reply, the end of the group or the deadline, whichever is first."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if ray.wait([reference], timeout=0.5)[0]:
                return ray.get(reference)
            if not self._thread.is_alive():
                raise LearnerError(self._ended or "The learner's worker group ended. Check its log.")
        raise LearnerError(
            f"The learner's workers did not {what} within {seconds:g} s. Check their log and resources: "
            f"{self._resources()}"
        )

    def _resources(self) -> str:
        """Return the resources that the group needs and those of the cluster, as a sentence."""
        group, total = self._config, ray.cluster_resources()
        return (
            f"{group.num_workers} workers with {group.cpus_per_worker:g} CPU and "
            f"{group.gpus_per_worker:g} GPU each, in a cluster of {total.get('CPU', 0):g} CPU and "
            f"{total.get('GPU', 0):g} GPU."
        )

    def _checked(self, answer: object) -> WorkerReply:
        """Return the reply, or raise the error in it."""
        found = cast(WorkerReply, answer)
        if found.error:
            self._ended = found.error
            raise LearnerError(found.error)
        return found

    def _fit(self, job: _Job, folder: Path) -> None:
        """Run Ray Train until the group stops. Runs in its own thread."""
        from ray.train.torch import TorchConfig, TorchTrainer

        group = job.group
        trainer = TorchTrainer(
            _work,
            train_loop_config={"job": job},
            torch_config=TorchConfig(backend="nccl" if group.gpus_per_worker else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=group.num_workers,
                use_gpu=group.gpus_per_worker > 0,
                resources_per_worker={"CPU": group.cpus_per_worker, "GPU": group.gpus_per_worker},
            ),
            run_config=ray.train.RunConfig(
                name=f"group-{time.time_ns()}",
                storage_path=str(folder),
                failure_config=ray.train.FailureConfig(max_failures=group.max_failures),
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            ),
        )
        try:
            trainer.fit()
        except Exception as error:
            self._ended = group_failure(error, group.max_failures)


@dataclass(frozen=True, slots=True)
class _RankZero:
    """`WeightSender` that asks rank 0, through the mailbox, to send its weights."""

    mailbox: ActorProxy[Mailbox]
    route: TransferRoute

    async def send(self, engines: tuple[ActorHandle, ...], deadline_seconds: float) -> None:
        """Wait until rank 0 has sent its weights; the deadline ends the session on both sides.

        Raises:
            LearnerError: not every engine received the weights.
        """
        session = TransferSession(self.route, engines, deadline_seconds)
        index: int | None = None
        answer: WorkerReply | None = None
        try:
            async with asyncio.timeout(deadline_seconds):
                index = await self.mailbox.put.remote(Command("send", session))
                answer = cast(WorkerReply, await self.mailbox.wait.remote(index))
        except TimeoutError as error:
            raise LearnerError(
                f"The learner sent no weights within {deadline_seconds:g} s. Check its log, or set "
                "engine.weight_transfer=bucket."
            ) from error
        finally:
            if index is not None and answer is None:
                self.mailbox.give_up.remote(index, "The weight transfer was aborted.")
        if answer is not None and answer.error:
            raise LearnerError(answer.error)


def _work(settings: Mapping[str, _Job]) -> None:
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
            _RayPost(job.mailbox, WeightBroadcaster()),
            Path(job.policy),
            job.learner,
            job.group,
            rank=rank,
            world_size=context.get_world_size(),
            is_sender=job.route is not None,
        ).serve()
    except _FINAL_ERRORS as error:
        is_ours = isinstance(error, LearnerError)
        line = str(error) if is_ours else f"Learner worker {rank} failed: {_error_line(error)}"
        ray.get(job.mailbox.fail.remote(line), timeout=_CALL_SECONDS)


@dataclass(frozen=True, slots=True)
class _RayPost:
    """`Post` over the mailbox and Ray Train."""

    mailbox: ActorProxy[Mailbox]
    broadcaster: WeightBroadcaster

    def take(self, index: int) -> Command:
        """Wait for a command, in calls of `_POLL_SECONDS`."""
        while True:
            reference = self.mailbox.take.remote(index, wait_seconds=_POLL_SECONDS)
            command = cast(Command | None, ray.get(reference, timeout=_CALL_SECONDS))
            if command is not None:
                return command

    def batch(self, command: Command) -> TokenBatch:
        """Fetch the batch from the object store."""
        references = cast(list["ObjectRef"], command.payload)
        return cast(TokenBatch, ray.get(references[0], timeout=_CALL_SECONDS))

    def send(self, bucket: WeightBucket, session: TransferSession) -> None:
        """Send through vLLM's weight transfer."""
        self.broadcaster.send(bucket, session)

    def ready(self, version: int, bucket: WeightBucket | None) -> None:
        """Report the start to the mailbox."""
        ray.get(self.mailbox.ready.remote(version, bucket), timeout=_CALL_SECONDS)

    def answer(self, index: int, answer: WorkerReply, bucket: WeightBucket | None) -> None:
        """Store the reply in the mailbox."""
        ray.get(self.mailbox.answer.remote(index, answer, bucket), timeout=_CALL_SECONDS)

    def report(self, folder: Path) -> None:
        """Report to Ray Train, which merges the parts of all ranks."""
        ray.train.report({}, checkpoint=ray.train.Checkpoint.from_directory(str(folder)))

    def checkpointed(self, next_index: int) -> None:
        """Report the checkpoint to the mailbox."""
        ray.get(self.mailbox.checkpointed.remote(next_index), timeout=_CALL_SECONDS)

    def checkpoint_folder(self) -> str:
        """Return the folder of Ray Train's newest checkpoint; empty without one."""
        checkpoint = ray.train.get_checkpoint()
        return "" if checkpoint is None else checkpoint.path


def _error_line(error: BaseException) -> str:
    """Return the type and first line of an error, without Ray's wrapping of a worker's error."""
    cause = getattr(error, "cause", None) or getattr(error, "_exc", None)
    if isinstance(cause, BaseException):
        return _error_line(cause)
    return f"{type(error).__name__}: {first_line(error)}"
