"""`Stepper` over a DeepSpeed engine: ZeRO 0 to 3, exact sums over ranks, gathered weights.

It runs in the process group that ray_learner.py opens. The update is in update.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from mica_ray.lora.layers import base_model, merged_parameters
from mica_ray.training.learner_state import LearnerState
from mica_ray.training.optimizer import adamw, load_reference
from mica_ray.training.policy_folder import (
    fingerprint,
    layout,
    load_policy,
    trained_parameters,
    write_policy,
)
from mica_ray.training.update import LearnerConfig

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

ZeroStage = Literal[0, 1, 2, 3]
_TAG = "engine"


def deepspeed_settings(config: LearnerConfig, *, zero_stage: ZeroStage, world_size: int) -> dict[str, object]:
    """Return DeepSpeed's configuration for a learner.

    The number of micro-batches varies, so gradient accumulation is controlled by `is_last`, not counted here.
    """
    return {
        "train_batch_size": world_size,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.grad_clip,
        "zero_optimization": {"stage": zero_stage},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": config.dtype == "bfloat16"},
        "steps_per_print": 1_000_000_000,
    }


@dataclass(frozen=True, slots=True)
class TorchRanks:
    """`Ranks` of the default torch process group."""

    rank: int
    world_size: int
    device: torch.device
    """Device that the group's backend can reduce on: CUDA for nccl, CPU for gloo."""

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sum over the ranks in float64."""
        return self._reduce(values, "sum")

    def max(self, values: np.ndarray) -> np.ndarray:
        """Return the element-wise maximum over the ranks."""
        return self._reduce(values, "max")

    def _reduce(self, values: np.ndarray, operation: Literal["sum", "max"]) -> np.ndarray:
        import torch
        import torch.distributed as dist

        tensor = torch.as_tensor(values, dtype=torch.float64).to(self.device, copy=True)
        dist.all_reduce(tensor, dist.ReduceOp.SUM if operation == "sum" else dist.ReduceOp.MAX)
        return tensor.cpu().numpy()


class DeepSpeedStepper:
    """`Stepper` over a DeepSpeed engine. Calls are collective: all ranks make them in order."""

    def __init__(
        self, policy: Path, config: LearnerConfig, *, zero_stage: ZeroStage, world_size: int
    ) -> None:
        """Load the policy on this rank and shard it.

        Raises:
            LearnerError: the folder contains no causal language model.
        """
        import torch

        # DeepSpeed's autotuner imports an installed MLflow, which costs every worker seconds for nothing.
        is_hidden = sys.modules.setdefault("mlflow", cast(ModuleType, None)) is None
        import deepspeed

        if is_hidden:
            del sys.modules["mlflow"]
        if not torch.cuda.is_available():
            # Its first use would compile C++ for most of a minute; gloo reduces without it.
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        self._policy, self._config = policy, config
        self._stage, self._world_size = zero_stage, world_size
        model = load_policy(
            policy,
            dtype=config.dtype,
            gradient_checkpointing=config.gradient_checkpointing,
            lora=config.lora,
        )
        trained = [parameter for _, parameter in trained_parameters(model, config.lora)]
        self.engine, optimizer, _, _ = deepspeed.initialize(
            model=model,
            optimizer=adamw(trained, config),
            config=deepspeed_settings(config, zero_stage=zero_stage, world_size=world_size),
            dist_init_required=False,
        )
        # Used only to set learning rates; DeepSpeed's wrappers have no common type.
        self._optimizer = cast("torch.optim.Optimizer", optimizer)
        self._device = torch.device(cast(str, self.engine.device))
        reference = load_reference(policy, config)
        self._reference = reference
        if reference is not None:
            torch.nn.Module.to(reference, self._device)

    @property
    def device(self) -> torch.device:
        """The engine's device."""
        return self._device

    @property
    def model(self) -> PreTrainedModel:
        """The model; its parameters are shards at ZeRO stage 3."""
        return cast("PreTrainedModel", self.engine.module)

    def logprobs(self, token_ids: torch.Tensor, mask: torch.Tensor, temperature: float) -> torch.Tensor:
        """Run the policy."""
        return self.engine(token_ids, mask, temperature)

    def reference_logprobs(
        self, token_ids: torch.Tensor, mask: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        """Run the frozen initial policy."""
        if self._config.lora is not None:
            with base_model(self.model):
                return self.engine(token_ids, mask, temperature)
        assert self._reference is not None, "the loss has no KL term"
        return self._reference(token_ids, mask, temperature)

    def backward(self, loss: torch.Tensor, *, is_last: bool) -> None:
        """Add this rank's gradient.

        DeepSpeed averages over the ranks and the update needs the sum, hence the factor.
        """
        self.engine.set_gradient_accumulation_boundary(is_last)
        self.engine.backward(loss * self._world_size)

    def step(self, learning_rate: float) -> float:
        """Clip, update the weights, clear the gradient; return the norm before clipping."""
        import torch

        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        # Only stage 0 keeps whole, averaged gradients on the parameters; there the engine returns no norm.
        whole = torch.nn.utils.get_total_norm(gradients) if self._stage == 0 and gradients else None
        self.engine.step()
        norm = self.engine.get_global_grad_norm()
        if norm is None:
            assert whole is not None, f"no gradient norm at ZeRO stage {self._stage}"
            return float(whole)
        return float(norm)

    def gather(self, *, keep: bool) -> dict[str, torch.Tensor]:
        """Return full parameters on the CPU by checkpoint name, gathered one at a time. Collective.

        Those of an adapter are merged into its layers. Without `keep` the mapping is empty.
        """
        if self._config.lora is not None:
            merged = merged_parameters(self.model, self._whole)
            return {name: value.to("cpu", copy=True) for name, value in merged if keep}
        return self.gather_trained(keep=keep)

    def gather_trained(self, *, keep: bool) -> dict[str, torch.Tensor]:
        """Return the trained parameters as `gather` does, an adapter as it is. Collective."""
        tensors: dict[str, torch.Tensor] = {}
        for name, parameter in trained_parameters(self.model, self._config.lora):
            with self._whole([parameter]):
                if keep:
                    tensors[name] = parameter.detach().to("cpu", copy=True)
        return tensors

    def fingerprint(self) -> str:
        """Return the fingerprint of the model's parameter names and full shapes."""
        return fingerprint(layout(self.model, self._config.lora))

    def save(self, directory: Path, *, rank: int, version: int, updates: int) -> None:
        """Write this rank's optimizer shard; rank 0 also writes the model folder and the counters.

        Args:
            directory: may differ between ranks; a restore needs the parts of all ranks in one folder.
            rank: this rank.
            version: update calls made.
            updates: optimizer steps made.
        """
        (directory / "engine" / _TAG).mkdir(parents=True, exist_ok=True)
        is_frozen_left_out = self._config.lora is not None
        self.engine.save_checkpoint(
            str(directory / "engine"), tag=_TAG, exclude_frozen_parameters=is_frozen_left_out
        )
        tensors = self.gather_trained(keep=rank == 0)
        if rank == 0:
            write_policy(
                directory / "policy",
                self.model,
                tensors=tensors,
                tokenizer_from=self._policy,
                lora=self._config.lora,
            )
            self._state(version, updates).write(directory)

    def restore(self, directory: Path) -> LearnerState:
        """Continue from the merged parts of `save`; return the counters.

        Raises:
            LearnerError: the folder has another model, ZeRO stage or number of workers.
        """
        state, own = LearnerState.read(directory), self._state(0, 0)
        state.check(directory, kind=own.kind, model=own.model, dtype=own.dtype)
        self.engine.load_checkpoint(
            str(directory / "engine"), tag=_TAG, load_module_strict=self._config.lora is None
        )
        return state

    def _state(self, version: int, updates: int) -> LearnerState:
        return LearnerState(
            kind=f"deepspeed zero {self._stage}, {self._world_size} workers",
            version=version,
            updates=updates,
            model=self.fingerprint(),
            dtype=self._config.dtype,
        )

    def _whole(self, parameters: Sequence[torch.nn.Parameter]) -> AbstractContextManager[object]:
        """Return a context in which parameters are whole; only ZeRO stage 3 shards them."""
        if self._stage < 3:
            return nullcontext()
        import deepspeed

        return deepspeed.zero.GatheredParameters(list(parameters))
