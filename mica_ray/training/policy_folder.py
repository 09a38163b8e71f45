"""The policy as a Hugging Face model folder: load it, write it, compare its layout."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mica_ray.error_lines import raised_as
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


def load_policy(folder: Path, *, dtype: Dtype, gradient_checkpointing: bool) -> PreTrainedModel:
    """Load a causal language model for training, without dropout, that returns log probabilities.

    With dropout the probability ratio of an on-policy update would not be 1. logprob_model.py documents what
    the model takes and returns.

    Args:
        folder: config.json, weights and tokenizer in Hugging Face form.
        dtype: type of the parameters in memory.
        gradient_checkpointing: recompute activations in the backward pass instead of keeping them.

    Raises:
        LearnerError: the folder is missing, or contains no causal language model with a linear head.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if not (folder / "config.json").is_file():
        raise LearnerError(f"Policy folder {folder} has no config.json. Use a Hugging Face model folder.")
    problem = f"Policy folder {folder} cannot be loaded as a causal language model"
    with raised_as(LearnerError, problem, "Use a complete Hugging Face model folder."):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    model.config.use_cache = False
    model.eval()
    if gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()  # transformers checkpoints in training mode only, so dropout is set to 0 here.
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if hasattr(module, "attention_dropout"):
                setattr(module, "attention_dropout", 0.0)  # noqa: B010 -- typed as a submodule
    return_logprobs(model)
    return model


def fingerprint(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    """Return 16 hex digits that are equal for equal parameter names and shapes, in any order."""
    lines = sorted(f"{name} {tuple(shape)}" for name, shape in shapes)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def write_policy(
    folder: Path, model: PreTrainedModel, *, tensors: Mapping[str, torch.Tensor], tokenizer_from: Path
) -> None:
    """Write a model folder: config, one safetensors file, tokenizer files.

    Args:
        folder: created when missing.
        model: source of the config; its parameters are not read, because they may be shards.
        tensors: full parameters by name, tied parameters once.
        tokenizer_from: folder whose tokenizer files are copied unchanged.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for pattern in _COPIED:
        for path in sorted(tokenizer_from.glob(pattern)):
            shutil.copyfile(path, folder / path.name)
    model.config.save_pretrained(folder)
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )


def read_policy_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Read the parameters that `write_policy` wrote, by name, on the CPU."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")
