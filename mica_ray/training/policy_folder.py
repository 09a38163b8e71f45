"""The policy as a Hugging Face model folder: load it, write it, compare its layout."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mica_ray.error_lines import raised_as
from mica_ray.lora.adapter import Adapter, LoraError
from mica_ray.lora.config import LoraConfig
from mica_ray.lora.folder import BaseRecord, read_adapter, read_base_record, weights_digest, write_adapter
from mica_ray.lora.layers import adapter_parameters, add_adapter
from mica_ray.training.learner import LearnerError
from mica_ray.training.logprob_model import return_logprobs

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Dtype = Literal["float32", "bfloat16"]

# Tokenizer and generation files, copied unchanged; weights and config.json are written.
_COPIED = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.jinja",
    "generation_config.json",
)


_CHECKPOINTED_PARAMETERS = 300_000_000
"""Parameters from which activations are computed again, if the config leaves it open."""


def uses_checkpointing(setting: bool | None, parameters: int) -> bool:
    """Return whether a model of that many parameters computes activations again in the backward pass.

    Args:
        setting: `LearnerConfig.gradient_checkpointing`.
        parameters: of the model.
    """
    return parameters >= _CHECKPOINTED_PARAMETERS if setting is None else setting


def load_policy(
    folder: Path, *, dtype: Dtype, gradient_checkpointing: bool | None, lora: LoraConfig | None = None
) -> PreTrainedModel:
    """Load a causal language model for training, without dropout, that returns log probabilities.

    With dropout the probability ratio of an on-policy update would not be 1. logprob_model.py documents what
    the model takes and returns.

    Args:
        folder: config.json, weights and tokenizer in Hugging Face form.
        dtype: type of the parameters in memory.
        gradient_checkpointing: as in `LearnerConfig`.
        lora: adds an adapter and freezes the rest.

    Raises:
        LearnerError: the folder is missing, or contains no causal language model with a linear head; or the
            adapter has a target that the model lacks.
    """
    import torch
    from transformers import AutoModelForCausalLM

    check_policy_folder(folder)
    problem = f"Policy folder {folder} cannot be loaded as a causal language model"
    with raised_as(LearnerError, problem, "Use a complete Hugging Face model folder."):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    prepare_training(model, gradient_checkpointing=gradient_checkpointing)
    return_logprobs(model)
    add_trained_adapter(model, lora)
    return model


def check_policy_folder(folder: Path) -> None:
    """Check that a folder may contain a model.

    Raises:
        LearnerError: it is missing, or has no config.
    """
    if not (folder / "config.json").is_file():
        raise LearnerError(f"Policy folder {folder} has no config.json. Use a Hugging Face model folder.")


def prepare_training(model: PreTrainedModel, *, gradient_checkpointing: bool | None) -> None:
    """Turn off dropout and the cache of keys and values; turn on gradient checkpointing."""
    import torch

    model.config.use_cache = False
    model.eval()
    parameters = sum(math.prod(shape) for _, shape in layout(model, None))
    if uses_checkpointing(gradient_checkpointing, parameters):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()  # transformers checkpoints in training mode only, so dropout is set to 0 here.
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if hasattr(module, "attention_dropout"):
                setattr(module, "attention_dropout", 0.0)  # noqa: B010 -- typed as a submodule


def add_trained_adapter(model: PreTrainedModel, lora: LoraConfig | None) -> None:
    """Freeze the model and add an adapter, if the config has one.

    Raises:
        LearnerError: the adapter has a target that the model lacks.
    """
    if lora is None:
        return
    try:
        add_adapter(model, lora)
    except LoraError as error:
        raise LearnerError(str(error)) from error


def trained_parameters(
    model: torch.nn.Module, lora: LoraConfig | None
) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Yield the parameters that a learner updates, by checkpoint name: all (tied ones once) or an adapter."""
    return model.named_parameters() if lora is None else adapter_parameters(model)


def layout(model: torch.nn.Module, lora: LoraConfig | None) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and full shape of every parameter, and the scale of an adapter, for a `fingerprint`."""
    for name, parameter in model.named_parameters():
        # DeepSpeed keeps the shape of a sharded parameter.
        yield name, tuple(getattr(parameter, "ds_shape", parameter.shape))
    if lora is not None:
        yield f"scale of the adapter {lora.scale!r}", ()


def fingerprint(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    """Return 16 hex digits that are equal for equal parameter names and shapes, in any order."""
    lines = sorted(f"{name} {tuple(shape)}" for name, shape in shapes)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def write_policy(
    folder: Path,
    model: PreTrainedModel,
    *,
    tensors: Mapping[str, torch.Tensor],
    tokenizer_from: Path,
    lora: LoraConfig | None = None,
) -> None:
    """Write a model folder: config, one safetensors file, tokenizer files. Or an adapter instead of weights.

    Args:
        folder: created when missing.
        model: source of the config; its parameters are not read, because they may be shards.
        tensors: the `trained_parameters`, whole.
        tokenizer_from: folder of the initial policy, whose tokenizer files are copied unchanged.
        lora: of the run.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for pattern in _COPIED:
        for path in sorted(tokenizer_from.glob(pattern)):
            shutil.copyfile(path, folder / path.name)
    model.config.save_pretrained(folder)
    if lora is not None:
        record = BaseRecord(str(model.dtype).removeprefix("torch."), weights_digest(tokenizer_from))
        base = lora.base or str(tokenizer_from.absolute())
        write_adapter(folder, Adapter(tensors, lora.scale), base=base, record=record)
        return
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )


def read_policy_tensors(
    folder: Path, *, policy: Path, lora: LoraConfig | None = None
) -> Mapping[str, torch.Tensor]:
    """Read the `trained_parameters` that `write_policy` wrote, on the CPU.

    Args:
        folder: of a checkpoint's policy.
        policy: folder of the initial policy.
        lora: of the run.

    Raises:
        LearnerError: the adapter is broken, or was trained from another base model.
    """
    if lora is None:
        from safetensors.torch import load_file

        return load_file(folder / "model.safetensors")
    try:
        record = read_base_record(folder)
        if record is not None and record.digest != weights_digest(policy):
            raise LearnerError(
                f"{folder} was trained from a base model with other weights than {policy}. Restore them, and "
                "rerun with --resume."
            )
        return read_adapter(folder).tensors
    except LoraError as error:
        raise LearnerError(str(error)) from error
