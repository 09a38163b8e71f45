"""`Learner` over a Ray Train group. The driver owns the loop; `fit()` runs in a thread.

A mailbox actor (mailbox.py) carries commands to the workers and replies back. A worker is in
sharded/ray_worker.py.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import ray
import ray.train

from mica_ray.rollout.weights import PublishedBuckets, TransferRoute, TransferSession
from mica_ray.training.learner import LearnerError
from mica_ray.training.learner_group import RayLearnerConfig
from mica_ray.training.mailbox import Command, Mailbox, RestartPoint, WorkerReply
from mica_ray.training.memory.group_failure import group_failure
from mica_ray.training.sharded.ray_worker import CALL_SECONDS, GroupJob, work
from mica_ray.training.update import LearnerConfig, batch_shares
from mica_ray.types import PolicyWeights, TokenBatch, UpdateReport

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle, ActorProxy

__all__ = ["RayLearner", "RayLearnerConfig"]

# Ray Train's defaults poll the group every 2 s and abort a start after 60 s, too early for two busy cores.
_TRAIN_SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "240",
}


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
            folder: for checkpoints of the group itself and Ray Train's state, visible on every node; those of
                earlier groups in it are removed.
            route: how rank 0 sends weights directly to the engines; None uses the object store.
        """
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("group-*"):
            shutil.rmtree(stale, ignore_errors=True)
        for name, setting in _TRAIN_SETTINGS.items():
            os.environ.setdefault(name, setting)
        self._config, self._learner = group, config
        self._mailbox = (
            ray.remote(Mailbox).options(num_cpus=0, max_concurrency=1000).remote(group.num_workers, ray.put)
        )
        self._version: int | None = None
        self._saved_index = -1
        self._ended = ""
        self._route = route
        name = f"group-{time.time_ns()}"
        job = GroupJob(
            mailbox=self._mailbox,
            policy=str(policy.absolute()),
            learner=config,
            group=group,
            folder=str(folder / name / "checkpoints"),
            route=route,
        )
        self._thread = threading.Thread(
            target=self._fit, args=(job, folder, name), name="learner group", daemon=True
        )
        self._thread.start()

    def update(self, batch: TokenBatch) -> UpdateReport:
        """Send every worker its share of the batch and wait for rank 0's report.

        Raises:
            LearnerError: the engine's log probabilities are not finite; or the group ended, had an error that
                a restart cannot fix, or missed its deadline.
        """
        self._start()
        shares = batch_shares(batch, self._learner, world_size=self._config.num_workers)
        answer = self._do(Command("update", [ray.put(share) for share in shares]), "update")
        return UpdateReport(
            answer.version, {**answer.metrics, "worker_restarts": float(answer.num_starts - 1)}
        )

    def weights(self) -> PolicyWeights:
        """Return the newest weights by reference; they never pass through the driver."""
        version = self._start()
        if self._route is not None:
            return PolicyWeights(version, _RankZero(self._mailbox, self._route))
        return PolicyWeights(version, PublishedBuckets(self._mailbox.weights.remote()))

    def save(self, directory: Path, *, copied: Callable[[], object] | None = None) -> None:
        """Write a checkpoint with all workers into the folder: `policy/`, `engine/`, `learner.json`.

        Args:
            directory: visible to every worker.
            copied: called as soon as the next update may start, if the workers copy their state.

        Raises:
            LearnerError: a worker cannot write, or the group ended.
        """
        self._start()
        index, _ = self._command(Command("save", str(directory.absolute())), "save")
        if copied is not None and self._config.copies_checkpoints:
            copied()
        reference = self._mailbox.wait_written.remote(index)
        answer = cast(WorkerReply, self._call(reference, self._config.update_seconds, "save"))
        if answer.error:
            raise LearnerError(answer.error)
        self._saved_index = index

    def committed(self, directory: Path) -> None:
        """Register the last save: a restarted group continues there, and batches up to it are released."""
        point = RestartPoint(self._saved_index + 1, str(directory.absolute()))
        ray.get(self._mailbox.checkpointed.remote(point), timeout=CALL_SECONDS)

    def restore(self, directory: Path) -> None:
        """Restore in every worker what `save` wrote, with any number of workers and any ZeRO stage.

        Raises:
            LearnerError: the folder has another model or dtype.
        """
        self._start()
        self._do(Command("restore", str(directory.absolute())), "restore")

    def close(self) -> None:
        """Stop the group, its thread and the mailbox. Wait less after an error: a rank may hang."""
        if self._thread.is_alive():
            ray.get(self._mailbox.put.remote(Command("stop")), timeout=CALL_SECONDS)
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
        return self._command(command, what)[1]

    def _command(self, command: Command, what: str) -> tuple[int, WorkerReply]:
        """Append a command and wait; return its index and the reply."""
        index = cast(int, ray.get(self._mailbox.put.remote(command), timeout=CALL_SECONDS))
        reference = self._mailbox.wait.remote(index)
        answer = self._checked(self._call(reference, self._config.update_seconds, what))
        self._version = answer.version
        return index, answer

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

    def _fit(self, job: GroupJob, folder: Path, name: str) -> None:
        """Run Ray Train until the group stops. Runs in its own thread."""
        from ray.train.torch import TorchConfig, TorchTrainer

        group = job.group
        trainer = TorchTrainer(
            work,
            train_loop_config={"job": job},
            torch_config=TorchConfig(backend="nccl" if group.gpus_per_worker else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=group.num_workers,
                use_gpu=group.gpus_per_worker > 0,
                resources_per_worker={"CPU": group.cpus_per_worker, "GPU": group.gpus_per_worker},
            ),
            run_config=ray.train.RunConfig(
                name=name,
                storage_path=str(folder),
                failure_config=ray.train.FailureConfig(max_failures=group.max_failures),
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
