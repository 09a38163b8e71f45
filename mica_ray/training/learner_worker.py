"""One rank of the learner's worker group, which runs commands together with the others.

A plain class over a `Post`, which ray_learner.py connects to Ray. The engine below it is in deepspeed.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread
from typing import Protocol, cast

from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.weights import TransferSession, WeightBucket, pack_buckets
from mica_ray.training.learner import LearnerError
from mica_ray.training.learner_group import RayLearnerConfig
from mica_ray.training.learner_state import LearnerState
from mica_ray.training.mailbox import Command, RestartPoint, WorkerReply
from mica_ray.training.sharded.group_stepper import KIND, checkpoint_writer, group_stepper, restore_group
from mica_ray.training.sharded.shares import RankShare
from mica_ray.training.sharded.torch_ranks import TorchRanks
from mica_ray.training.update import LearnerConfig, run_update


class Post(Protocol):
    """A rank's connection to the world outside its group. Every call except take has a deadline."""

    def take(self, index: int) -> Command:
        """Wait for a command, as long as the driver collects dialogues."""
        ...

    def share(self, command: Command, rank: int) -> RankShare:
        """Return this rank's part of the batch of an update command."""
        ...

    def hold(self, bucket: WeightBucket) -> None:
        """Send one bucket of the weights that the next `ready` or `answer` is about."""
        ...

    def ready(self, version: int) -> None:
        """Report that the group has started."""
        ...

    def send(self, buckets: Sequence[WeightBucket], session: TransferSession) -> None:
        """Send weights to the engines of a session.

        Raises:
            EngineError: not every engine received them.
        """
        ...

    def written(self, index: int, rank: int, line: str) -> None:
        """Report that a rank has written its part of a save command, or its error."""
        ...

    def answer(self, index: int, answer: WorkerReply) -> None:
        """Reply to a command."""
        ...

    def checkpointed(self, point: RestartPoint) -> None:
        """Report a complete checkpoint at which a restarted group continues."""
        ...

    def restart(self) -> RestartPoint:
        """Return the newest reported checkpoint; unfinished saves will be written again."""
        ...


class LearnerWorker:
    """One rank. Consumes commands, produces replies and checkpoints."""

    def __init__(
        self,
        post: Post,
        policy: Path,
        learner: LearnerConfig,
        group: RayLearnerConfig,
        *,
        folder: Path,
        rank: int,
        world_size: int,
        is_sender: bool = False,
    ) -> None:
        """Load and shard the policy; after a restart, restore the newest checkpoint.

        Args:
            post: connection to the world outside the group.
            policy: model folder.
            learner: optimizer, schedule and loss.
            group: ZeRO stage and checkpoints.
            folder: for checkpoints between those that the driver asks for; visible to every rank.
            rank: this rank in the open process group.
            world_size: its size.
            is_sender: whether rank 0 keeps the weights and sends them on demand; otherwise they go to the
                mailbox.

        Raises:
            LearnerError: the folder contains no causal language model.
        """
        self._post, self._learner, self._group, self._rank = post, learner, group, rank
        self._policy, self._folder = policy, folder
        self._stepper = group_stepper(policy, learner, group, rank=rank)
        self._ranks = TorchRanks(rank, world_size, self._stepper.device)
        self._version, self._updates, self._index = 0, 0, 0
        self._checkpointed_version = 0
        self._own_checkpoint: Path | None = None
        self._is_sender, self._held = is_sender, cast(Sequence[WeightBucket], ())
        self._writing = Thread()
        # Rank 0 decides: the driver may report another checkpoint between the questions of two ranks.
        point = self._ranks.of_first(post.restart() if rank == 0 else RestartPoint())
        if point.folder:
            folder_before = Path(point.folder)
            self._restore(folder_before)
            self._index = point.index
            self._own_checkpoint = folder_before if folder_before.parent == folder else None

    def serve(self) -> None:
        """Run commands until a stop command."""
        self._hand_over_weights()
        if self._rank == 0:
            self._post.ready(self._version)
        while True:
            command = self._post.take(self._index)
            if command.kind == "stop":
                self._finish_writing()
                return
            if command.kind == "update":
                self._update(command)
            elif command.kind == "restore":
                self._restore(Path(cast(str, command.payload)))
                self._hand_over_weights()
                self._answer(WorkerReply(self._version, {}))
                self._report_checkpoint(Path(cast(str, command.payload)))
            elif command.kind == "send":
                self._send(command)
            else:
                self._save(command)
            self._index += 1

    def _update(self, command: Command) -> None:
        """Run one update and reply; then checkpoint if due."""
        outcome = run_update(
            self._stepper,
            self._post.share(command, self._rank),
            config=self._learner,
            first_update=self._updates,
            ranks=self._ranks,
        )
        self._updates += outcome.num_updates
        self._version += 1
        self._hand_over_weights()
        self._answer(WorkerReply(self._version, outcome.metrics))
        if self._version - self._checkpointed_version >= self._group.checkpoint_every:
            self._checkpoint()

    def _send(self, command: Command) -> None:
        """Send the newest weights from rank 0; skip a session that is over."""
        if not self._held or command.payload is None:
            return
        try:
            self._post.send(self._held, cast(TransferSession, command.payload))
        except EngineError as error:
            # The collective may hang forever in its thread; only a new process is free of it.
            self._answer(WorkerReply(self._version, {}, error=str(error)))
            raise
        self._answer(WorkerReply(self._version, {}))

    def _save(self, command: Command) -> None:
        """Write a checkpoint into the driver's folder; skip one that was complete before a restart.

        The reply means that the state is copied, and training may go on. Every rank reports its own files.
        """
        if command.payload is None:
            return
        self._finish_writing()  # Two copies of the state could need too much memory.
        copies = self._group.copies_checkpoints
        write = self._writer(Path(cast(str, command.payload)), copies=copies)
        index = self._index

        def write_and_report() -> None:
            self._post.written(index, self._rank, write())

        if copies:
            self._writing = Thread(target=write_and_report, name="checkpoint")
            self._writing.start()
        else:
            write_and_report()
        self._checkpointed_version = self._version
        self._answer(WorkerReply(self._version, {}))

    def _finish_writing(self) -> None:
        """Wait until this rank's part of the last checkpoint is written."""
        if self._writing.is_alive():
            self._writing.join()

    def _checkpoint(self) -> None:
        """Write a checkpoint of the group itself, in place of the one before. Collective."""
        final = self._folder / f"version-{self._version:06d}"
        partial = final.with_name(f".partial-{final.name}")
        if line := self._ranks.first_error(self._writer(partial)()):
            raise LearnerError(line)
        self._checkpointed_version = self._version
        if self._rank == 0:
            shutil.rmtree(final, ignore_errors=True)  # After a restart the version may be here already.
            partial.rename(final)
            self._report_checkpoint(final)
            if self._own_checkpoint not in (None, final):
                shutil.rmtree(self._own_checkpoint, ignore_errors=True)
        self._own_checkpoint = final

    def _writer(self, folder: Path, *, copies: bool = False) -> Callable[[], str]:
        """Return what writes this rank's part of a checkpoint. Collective."""
        state = LearnerState(
            kind=KIND,
            version=self._version,
            updates=self._updates,
            model=self._stepper.fingerprint(),
            dtype=self._learner.dtype,
        )
        return checkpoint_writer(
            self._stepper,
            folder,
            ranks=self._ranks,
            policy=self._policy,
            lora=self._learner.lora,
            state=state,
            copies=copies,
        )

    def _report_checkpoint(self, folder: Path) -> None:
        """Report that a restarted group can continue after the current command."""
        if self._rank == 0:
            self._post.checkpointed(RestartPoint(self._index + 1, str(folder)))

    def _restore(self, folder: Path) -> None:
        """Continue from a checkpoint. Collective."""
        state = restore_group(self._stepper, folder, ranks=self._ranks, config=self._learner)
        self._version, self._updates = state.version, state.updates
        self._checkpointed_version = self._version

    def _hand_over_weights(self) -> None:
        """Gather the weights, one bucket at a time. Collective.

        They go to the mailbox; a rank 0 that sends weights itself keeps them.
        """
        lora = self._learner.lora
        is_adapter = lora is not None and lora.push == "adapter"
        named = self._stepper.trained() if is_adapter else self._stepper.whole_model()
        if self._rank != 0:
            for _ in named:
                pass
        else:
            buckets = pack_buckets(named, lora_scale=lora.scale if lora and is_adapter else None)
            if self._is_sender:
                self._held = tuple(buckets)
            else:
                for bucket in buckets:
                    self._post.hold(bucket)
        if 0 < self._group.gpus_per_worker < 1:
            import torch

            torch.cuda.empty_cache()  # An engine on the same GPU wakes into the memory of the activations.

    def _answer(self, answer: WorkerReply) -> None:
        """Reply to the current command from rank 0."""
        if self._rank == 0:
            self._post.answer(self._index, answer)
