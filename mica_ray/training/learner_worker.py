"""One rank of the learner's worker group, which runs commands together with the others.

A plain class over a `Post`, which ray_learner.py connects to Ray. The engine below it is in deepspeed.py.
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
    """A rank's connection to the world outside its group. Every call except take has a deadline."""

    def take(self, index: int) -> Command:
        """Wait for a command, as long as the driver collects dialogues."""
        ...

    def batch(self, command: Command) -> TokenBatch:
        """Return the batch of an update command."""
        ...

    def ready(self, version: int, bucket: WeightBucket | None) -> None:
        """Report that the group has started."""
        ...

    def send(self, bucket: WeightBucket, session: TransferSession) -> None:
        """Send weights to the engines of a session.

        Raises:
            EngineError: not every engine received them.
        """
        ...

    def answer(self, index: int, answer: WorkerReply, bucket: WeightBucket | None) -> None:
        """Reply to a command."""
        ...

    def report(self, folder: Path) -> None:
        """Store this rank's part of a checkpoint for a restart of the group. Collective."""
        ...

    def checkpointed(self, next_index: int) -> None:
        """Report the command at which the stored checkpoint continues."""
        ...

    def checkpoint_folder(self) -> str:
        """Return the folder of the newest stored checkpoint, all parts merged; empty without one."""
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
        rank: int,
        world_size: int,
        is_sender: bool = False,
    ) -> None:
        """Load and shard the policy; after a restart, restore the group's checkpoint.

        Args:
            post: connection to the world outside the group.
            policy: model folder.
            learner: optimizer, schedule and loss.
            group: ZeRO stage and checkpoints.
            rank: this rank in the open process group.
            world_size: its size.
            is_sender: whether rank 0 keeps the weights and sends them on demand; otherwise they go to the
                mailbox.

        Raises:
            LearnerError: the folder contains no causal language model.
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
        """Run commands until a stop command."""
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
                # The checkpoint continues at this command: a group restarted here must still reply to it.
                self._checkpoint(next_index=self._index)
                self._answer(WorkerReply(self._version, {}, folder=self._post.checkpoint_folder()))
            self._index += 1

    def _update(self, command: Command) -> None:
        """Run one update and reply; then checkpoint if due, since a report waits for Ray Train."""
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
        """Send the newest weights from rank 0; skip a session that is over."""
        if self._held is None or command.payload is None:
            return
        try:
            self._post.send(self._held, cast(TransferSession, command.payload))
        except EngineError as error:
            # The collective may hang forever in its thread; only a new process is free of it.
            self._answer(WorkerReply(self._version, {}, error=str(error)))
            raise
        self._answer(WorkerReply(self._version, {}))

    def _checkpoint(self, *, next_index: int) -> None:
        """Store a checkpoint unless this version has one. Collective."""
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
            The bucket for the mailbox. None on the other ranks, and where rank 0 keeps it to send it itself.
        """
        lora, is_packed = self._learner.lora, self._rank == 0
        is_adapter = lora is not None and lora.push == "adapter"
        gather = self._stepper.gather_trained if is_adapter else self._stepper.gather
        tensors = gather(keep=is_packed)
        if 0 < self._group.gpus_per_worker < 1:
            import torch

            torch.cuda.empty_cache()  # An engine on the same GPU wakes into the memory of the activations.
        if self._rank != 0:
            return None
        bucket = pack_weights(tensors.items(), lora_scale=lora.scale if lora and is_adapter else None)
        self._held = bucket if self._is_sender else None
        return None if self._is_sender else bucket

    def _answer(self, answer: WorkerReply, bucket: WeightBucket | None = None) -> None:
        """Reply to the current command from rank 0."""
        if self._rank == 0:
            self._post.answer(self._index, answer, bucket)
