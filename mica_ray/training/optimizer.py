"""AdamW and the frozen reference policy, built here for both learners."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mica_ray.training.policy_folder import load_policy
from mica_ray.training.update import LearnerConfig

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def adamw(parameters: Sequence[torch.nn.Parameter], config: LearnerConfig) -> torch.optim.AdamW:
    """Build AdamW over the parameters; norms and biases get no weight decay.

    It is torch's fused one, on CPUs too: one pass over the memory, and no temporary values, which would take
    4 to 8 bytes per parameter.

    Args:
        parameters: to step.
        config: rate, betas and weight decay.
    """
    import torch

    # A parameter sharded by DeepSpeed is empty, and keeps its shape in ds_shape.
    ranks = [len(getattr(parameter, "ds_shape", parameter.shape)) for parameter in parameters]
    decayed = [parameter for parameter, rank in zip(parameters, ranks, strict=True) if rank >= 2]
    kept = [parameter for parameter, rank in zip(parameters, ranks, strict=True) if rank < 2]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.weight_decay}, {"params": kept, "weight_decay": 0.0}],
        lr=config.learning_rate,
        betas=config.adam_betas,
        eps=config.adam_eps,
        fused=True,
    )


def load_reference(policy: Path, config: LearnerConfig) -> PreTrainedModel | None:
    """Load the frozen initial policy; return None when the loss has no KL term, or an adapter is trained.

    It is the policy that the run started from, also after a resume. Every rank has a full copy. With an
    adapter, the policy itself is the initial one while its adapter is off.
    """
    if config.loss.kl_coefficient == 0 or config.lora is not None:
        return None
    model = load_policy(policy, dtype=config.dtype, gradient_checkpointing=False)
    return model.requires_grad_(False)
