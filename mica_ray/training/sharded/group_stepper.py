"""The engine of one rank of a worker group: which one it is, and its checkpoints.

ZeRO stages 1 to 3 are in deepspeed.py, stage 0 in replicated.py; the files of a checkpoint in shards.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mica_ray.error_lines import first_line
from mica_ray.lora.config import LoraConfig
from mica_ray.training.deepspeed import DeepSpeedStepper
from mica_ray.training.learner_group import RayLearnerConfig
from mica_ray.training.learner_state import LearnerState
from mica_ray.training.policy_folder import write_policy
from mica_ray.training.sharded.pieces import Piece
from mica_ray.training.sharded.replicated import ReplicatedStepper
from mica_ray.training.sharded.shards import ShardReader, open_shards, write_shards
from mica_ray.training.sharded.torch_ranks import TorchRanks
from mica_ray.training.stepper import Stepper
from mica_ray.training.update import LearnerConfig

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

KIND = "worker group"
"""`LearnerState.kind`. Neither the number of workers nor the ZeRO stage is part of it: both may change."""


class GroupStepper(Stepper, Protocol):
    """The engine of one rank. All ranks call every method in the same order."""

    @property
    def model(self) -> PreTrainedModel:
        """The model; its parameters may be shards."""
        ...

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer that steps the pieces."""
        ...

    def whole_model(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield all parameters by checkpoint name, tied ones once, an adapter merged into its layers.

        Every rank must exhaust it; a tensor is whole until the next one is asked for.
        """
        ...

    def trained(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the trained parameters as `whole_model` does, an adapter as it is."""
        ...

    def fingerprint(self) -> str:
        """Return the fingerprint of the model's parameter names and full shapes."""
        ...

    def pieces(self) -> Iterator[Piece]:
        """Yield what this rank owns of weights and optimizer state."""
        ...

    def load(self, reader: ShardReader) -> None:
        """Restore weights and optimizer state."""
        ...


def group_stepper(policy: Path, config: LearnerConfig, group: RayLearnerConfig, *, rank: int) -> GroupStepper:
    """Load the policy on one rank of the open process group.

    Raises:
        LearnerError: the folder contains no causal language model.
    """
    if group.zero_stage == 0:
        return ReplicatedStepper(policy, config, rank=rank, world_size=group.num_workers)
    return DeepSpeedStepper(policy, config, group, rank=rank)


def checkpoint_writer(
    stepper: GroupStepper,
    directory: Path,
    *,
    ranks: TorchRanks,
    policy: Path,
    lora: LoraConfig | None,
    state: LearnerState,
    copies: bool = False,
) -> Callable[[], str]:
    """Return a function that writes this rank's part of a checkpoint, once and in place. Collective.

    `engine/` has the optimizer state in one file for each rank, `policy/` the model folder, `learner.json`
    the counters. The function itself is not collective: it may run in a thread.

    Args:
        stepper: engine of this rank.
        directory: the same for all ranks, visible to all.
        ranks: the group.
        policy: folder of the initial policy, with the tokenizer.
        lora: of the run.
        state: the counters.
        copies: whether the state is copied to host memory first, so that training may go on.

    Returns:
        Writes, and returns one line about its error; empty without one.
    """
    # Copied before the next one: a sharded parameter is whole only for a moment.
    tensors = {name: value.to("cpu", copy=True) for name, value in stepper.trained() if ranks.rank == 0}
    shards = [piece.shard(stepper.optimizer) for piece in stepper.pieces()]
    if copies:
        shards = [shard.copied() for shard in shards]

    def write() -> str:
        try:
            write_shards(directory / "engine", shards, rank=ranks.rank, world_size=ranks.world_size)
            if ranks.rank == 0:
                write_policy(
                    directory / "policy", stepper.model, tensors=tensors, tokenizer_from=policy, lora=lora
                )
                state.write(directory)
        except Exception as error:  # Whatever it is, the driver must not wait for this rank.
            return (
                f"Learner worker {ranks.rank} cannot write {directory} ({type(error).__name__}: "
                f"{first_line(error)}). Check the folder and its disk."
            )
        return ""

    return write


def restore_group(
    stepper: GroupStepper, directory: Path, *, ranks: TorchRanks, config: LearnerConfig
) -> LearnerState:
    """Continue from what a group of any size and ZeRO stage saved; return the counters. Collective.

    Raises:
        LearnerError: the folder has another model or dtype, or a file is missing.
    """
    state = LearnerState.read(directory)
    state.check(directory, kind=KIND, model=stepper.fingerprint(), dtype=config.dtype)
    with open_shards(directory / "engine") as reader:
        stepper.load(reader)
    ranks.first_error("")  # No rank goes on before all have read.
    return state
