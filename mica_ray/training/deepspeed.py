"""`GroupStepper` over a DeepSpeed engine: ZeRO 1 to 3, gathered weights.

It runs in the process group that ray_learner.py opens. The update is in update.py, stage 0 and checkpoints
in sharded/.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mica_ray.lora.layers import base_model, merged_parameters
from mica_ray.training.learner_group import RayLearnerConfig
from mica_ray.training.logprob_model import return_logprobs
from mica_ray.training.optimizer import adamw, load_reference
from mica_ray.training.policy_folder import (
    add_trained_adapter,
    fingerprint,
    layout,
    load_policy,
    trained_parameters,
)
from mica_ray.training.sharded.pieces import Piece, load_zero, zero_pieces
from mica_ray.training.sharded.shards import ShardReader
from mica_ray.training.sharded.zero_init import can_load_sharded, load_sharded
from mica_ray.training.sharded.zero_settings import deepspeed_settings, import_deepspeed
from mica_ray.training.update import LearnerConfig

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_LOG = logging.getLogger(__name__)


class DeepSpeedStepper:
    """`GroupStepper` over a DeepSpeed engine. Calls are collective: all ranks make them in order."""

    def __init__(self, policy: Path, config: LearnerConfig, group: RayLearnerConfig, *, rank: int) -> None:
        """Load the policy on this rank and shard it.

        Args:
            policy: model folder in Hugging Face form.
            config: optimizer, schedule and loss.
            group: number of ranks, ZeRO stage, offloading and buckets.
            rank: this rank in the open process group.

        Raises:
            LearnerError: the folder contains no causal language model.
        """
        import torch

        deepspeed = import_deepspeed()
        self._lora = config.lora
        self._stage, self._rank, self._world_size = group.zero_stage, rank, group.num_workers
        settings = deepspeed_settings(config, group)
        model, is_sharded = _load(policy, config, settings, rank=rank)
        trained = [parameter for _, parameter in trained_parameters(model, config.lora)]
        self.engine, optimizer, _, _ = deepspeed.initialize(
            model=model,
            optimizer=adamw(trained, config),
            config=settings,
            dist_init_required=False,
        )
        is_reducing = hasattr(optimizer, "reduce_gradients")
        if group.num_workers == 1 and group.zero_stage == 1 and not is_reducing:
            # One rank has nothing to sum, and for the sum DeepSpeed would copy the whole gradient in fp32.
            self.engine.enable_backward_allreduce = False
        if is_sharded:  # Its first forward pass needs the engine, which gathers the weights.
            return_logprobs(self.model)
        # Used only to set learning rates; DeepSpeed's wrappers have no common type.
        self._optimizer = cast("torch.optim.Optimizer", optimizer)
        self._device = torch.device(cast(str, self.engine.device))
        self._reference = _load_reference(policy, config, group, rank=rank, device=self._device)

    @property
    def device(self) -> torch.device:
        """The engine's device."""
        return self._device

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW below DeepSpeed's wrapper."""
        return cast("torch.optim.Optimizer", self.engine.basic_optimizer)

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
        if self._lora is not None:
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
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self.engine.step()
        norm = self.engine.get_global_grad_norm()
        assert norm is not None, f"no gradient norm at ZeRO stage {self._stage}"
        return float(norm)

    def whole_model(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the parameters by checkpoint name, gathered one at a time, an adapter merged. Collective."""
        if self._lora is not None:
            return merged_parameters(self.model, self._whole)
        return self.trained()

    def trained(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the trained parameters as `whole_model` does, an adapter as it is. Collective."""
        for name, parameter in trained_parameters(self.model, self._lora):
            with self._whole([parameter]):
                yield name, parameter.detach()

    def fingerprint(self) -> str:
        """Return the fingerprint of the model's parameter names and full shapes."""
        return fingerprint(layout(self.model, self._lora))

    def pieces(self) -> Iterator[Piece]:
        """Yield what this rank owns of weights and optimizer state."""
        return zero_pieces(self.engine, stage=self._stage, rank=self._rank)

    def load(self, reader: ShardReader) -> None:
        """Restore weights and optimizer state."""
        load_zero(self.engine, reader, stage=self._stage, rank=self._rank)

    def _whole(self, parameters: Sequence[torch.nn.Parameter]) -> AbstractContextManager[object]:
        """Return a context in which parameters are whole; only ZeRO stage 3 shards them."""
        if self._stage < 3:
            return nullcontext()
        return import_deepspeed().zero.GatheredParameters(list(parameters))


def _load(
    policy: Path, config: LearnerConfig, settings: Mapping[str, Any], *, rank: int, is_frozen: bool = False
) -> tuple[PreTrainedModel, bool]:
    """Load the policy; return also whether it is sharded, and then still returns logits."""
    checkpointing = False if is_frozen else config.gradient_checkpointing
    lora = None if is_frozen else config.lora
    if settings["zero_optimization"]["stage"] == 3 and can_load_sharded(policy):
        model = load_sharded(
            policy, settings, dtype=config.dtype, gradient_checkpointing=checkpointing, rank=rank
        )
        if model is not None:
            add_trained_adapter(model, lora)
            return model, True
        _LOG.warning(
            "The weights of %s have other names than the model: each rank loads all of them.", policy
        )
    model = load_policy(policy, dtype=config.dtype, gradient_checkpointing=checkpointing, lora=lora)
    return model, False


def _load_reference(
    policy: Path, config: LearnerConfig, group: RayLearnerConfig, *, rank: int, device: torch.device
) -> torch.nn.Module | None:
    """Load the frozen initial policy, sharded over the ranks; None where `load_reference` has none."""
    import torch

    if group.num_workers == 1 or config.loss.kl_coefficient == 0 or config.lora is not None:
        reference = load_reference(policy, config)
        return None if reference is None else torch.nn.Module.to(reference, device)
    settings = deepspeed_settings(config, replace(group, zero_stage=3, offload_optimizer=False))
    model, is_sharded = _load(policy, config, settings, rank=rank, is_frozen=True)
    model.requires_grad_(False)
    engine = import_deepspeed().initialize(model=model, config=settings, dist_init_required=False)[0]
    if is_sharded:
        return_logprobs(cast("PreTrainedModel", engine.module))
    return engine
