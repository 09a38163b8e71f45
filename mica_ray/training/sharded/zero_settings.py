"""DeepSpeed's configuration of a worker group, and its import. The engine is in deepspeed.py."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, cast

from mica_ray.training.learner_group import RayLearnerConfig
from mica_ray.training.update import LearnerConfig


def import_deepspeed() -> Any:
    """Import DeepSpeed without what costs a worker seconds or a minute for nothing."""
    import torch

    # Its autotuner imports an installed MLflow.
    is_hidden = sys.modules.setdefault("mlflow", cast(ModuleType, None)) is None
    import deepspeed

    if is_hidden:
        del sys.modules["mlflow"]
    if not torch.cuda.is_available():
        # Its first use would compile C++; gloo reduces without it.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def deepspeed_settings(config: LearnerConfig, group: RayLearnerConfig) -> dict[str, object]:
    """Return DeepSpeed's configuration for a learner.

    The number of micro-batches varies, so gradient accumulation is controlled by `is_last`, not counted here.
    """
    dtype = group.gradient_dtype if config.dtype == "bfloat16" else "float32"
    gradient_dtype = {"float32": "fp32", "bfloat16": "bf16"}[dtype]
    return {
        "train_batch_size": group.num_workers,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.grad_clip,
        "zero_optimization": _zero_settings(group),
        "zero_allow_untested_optimizer": True,
        # torch's fused AdamW also steps on the CPU; DeepSpeed's own would have to be compiled.
        "zero_force_ds_cpu_optimizer": False,
        # Gradients of single parameters are added to the fp32 sums and freed during the backward pass.
        "bf16": {"enabled": config.dtype == "bfloat16", "immediate_grad_update": True},
        "data_types": {"grad_accum_dtype": gradient_dtype},
        "communication_data_type": gradient_dtype,
        "steps_per_print": 1_000_000_000,
    }


def _zero_settings(group: RayLearnerConfig) -> dict[str, object]:
    settings: dict[str, object] = {
        "stage": group.zero_stage,
        "reduce_bucket_size": group.reduce_bucket_elements,
        "stage3_prefetch_bucket_size" if group.zero_stage == 3 else "allgather_bucket_size": (
            group.gather_bucket_elements
        ),
    }
    # Page-locked host memory is copied to and from a GPU at full speed.
    host = {"device": "cpu", "pin_memory": group.gpus_per_worker > 0}
    if group.offload_optimizer:
        settings["offload_optimizer"] = host
    if group.offload_parameters:
        settings["offload_param"] = host
    return settings
