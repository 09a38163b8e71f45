"""One rank of the learner's worker group: reads commands by index, does them with its peers.

A plain class over a `Post`; ray_learner.py connects it to Ray. Neighbours: mailbox.py, deepspeed.py.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Protocol, cast

from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.weights import TransferSession, WeightBucket, pack_weights
from mica_ray.training.deepspeed import DeepSpeedStepper, TorchRanks
from mica_ray.training.learner_group import RayLearnerConfig
from mica_ray.training.mailbox import Command, WorkerReply
from mica_ray.training.update import LearnerConfig, run_update
from mica_ray.types import TokenBatch

_INDEX_FILE = "next_command.txt"


class Post(Protocol):
    """What a rank needs of the world outside its group. Every call has a deadline of its own."""

    def take(self, index: int) -> Command:
        """Wait for a command, for as long as the driver needs to collect dialogues."""
        ...

    def batch(self, command: Command) -> TokenBatch:
        """Give the batch of an update command."""
        ...

    def ready(self, version: int, bucket: WeightBucket | None) -> None:
        """Say that the group runs."""
        ...

    def send(self, bucket: WeightBucket, session: TransferSession) -> None:
        """Send weights to the engines of a session.

        Raises:
            EngineError: they did not all get them.
        """
        ...

    def answer(self, index: int, answer: WorkerReply, bucket: WeightBucket | None) -> None:
        """Answer a command."""
        ...

    def report(self, folder: Path) -> None:
        """Hand this rank's part of a checkpoint to whoever restarts the group. Collective."""
        ...

    def checkpointed(self, next_index: int) -> None:
        """Say that the reported checkpoint continues at this command."""
        ...

    def checkpoint_folder(self) -> str:
        """Give where the newest reported checkpoint lies, all parts merged; empty when there is none."""
        ...


class LearnerWorker:
    """One rank. Consumes commands, produces answers and checkpoints; waits for its post and its peers."""

    def __init__(
        self,
        post: Post,
        policy: Path,
        learner: LearnerConfig,
        group: RayLearnerConfig,
        *,
        rank: int,
        world_size: int,
        is_sender: bool = False,
    ) -> None:
        """Load the policy, shard it, and fall back to the group's checkpoint after a restart.

        Args:
            post: the world outside.
            policy: model folder.
            learner: how the weights move.
            group: ZeRO stage and checkpoints.
            rank: this rank in the open process group.
            world_size: its size.
            is_sender: rank 0 keeps the weights and sends them on demand; else the mailbox gets them.

        Raises:
            LearnerError: the folder holds no causal language model.
        """
        self._post, self._learner, self._group, self._rank = post, learner, group, rank
        self._stepper = DeepSpeedStepper(policy, learner, zero_stage=group.zero_stage, world_size=world_size)
        self._ranks = TorchRanks(rank, world_size, self._stepper.device)
        self._version, self._updates, self._index = 0, 0, 0
        self._checkpointed_version = -1
        self._is_sender, self._held = is_sender, cast(WeightBucket | None, None)
        folder = post.checkpoint_folder()
        if folder:
            self._restore(Path(folder))
            self._index = int((Path(folder) / _INDEX_FILE).read_text())
            self._checkpointed_version = self._version

    def serve(self) -> None:
        """Do commands until one says stop."""
        bucket = self._bucket()
        if self._rank == 0:
            self._post.ready(self._version, bucket)
        while True:
            command = self._post.take(self._index)
            if command.kind == "stop":
                return
            if command.kind == "update":
                self._update(command)
            elif command.kind == "restore":
                self._restore(Path(cast(str, command.payload)))
                self._answer(WorkerReply(self._version, {}), self._bucket())
            elif command.kind == "send":
                self._send(command)
            else:
                # Continue at this very command: whoever restarts here has the answer still to give.
                self._checkpoint(next_index=self._index)
                self._answer(WorkerReply(self._version, {}, folder=self._post.checkpoint_folder()))
            self._index += 1

    def _update(self, command: Command) -> None:
        """Do one update, answer, and only then checkpoint where it is due: a report waits for Ray Train."""
        outcome = run_update(
            self._stepper,
            self._post.batch(command),
            config=self._learner,
            first_update=self._updates,
            ranks=self._ranks,
        )
        self._updates += outcome.num_updates
        self._version += 1
        self._answer(WorkerReply(self._version, outcome.metrics), self._bucket())
        if self._version % self._group.checkpoint_every == 0:
            self._checkpoint(next_index=self._index + 1)

    def _send(self, command: Command) -> None:
        """Send the newest weights, as rank 0; a session that is over is passed by."""
        if self._held is None or command.payload is None:
            return
        try:
            self._post.send(self._held, cast(TransferSession, command.payload))
        except EngineError as error:
            # The collective may hang for ever in its thread: only a new process is sure to be rid of it.
            self._answer(WorkerReply(self._version, {}, error=str(error)))
            raise
        self._answer(WorkerReply(self._version, {}))

    def _checkpoint(self, *, next_index: int) -> None:
        """Report a checkpoint unless this version has one. Collective."""
        if self._checkpointed_version == self._version:
            return
        with tempfile.TemporaryDirectory(prefix="learner-") as name:
            folder = Path(name)
            self._stepper.save(folder, rank=self._rank, version=self._version, updates=self._updates)
            if self._rank == 0:
                (folder / _INDEX_FILE).write_text(str(next_index))
            self._post.report(folder)
        self._checkpointed_version = self._version
        if self._rank == 0:
            self._post.checkpointed(next_index)

    def _restore(self, folder: Path) -> None:
        """Continue from a checkpoint. Collective."""
        state = self._stepper.restore(folder)
        self._version, self._updates = state.version, state.updates
        self._checkpointed_version = -1

    def _bucket(self) -> WeightBucket | None:
        """Gather the weights. Collective.

        Returns:
            The bucket for the mailbox: None but on rank 0, and None where rank 0 keeps it to send it itself.
        """
        tensors = self._stepper.gather(keep=self._rank == 0)
        if self._rank != 0:
            return None
        bucket = pack_weights(tensors.items())
        self._held = bucket if self._is_sender else None
        return None if self._is_sender else bucket

    def _answer(self, answer: WorkerReply, bucket: WeightBucket | None = None) -> None:
        """Answer the current command, as rank 0."""
        if self._rank == 0:
            self._post.answer(self._index, answer, bucket)
