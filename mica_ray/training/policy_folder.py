"""The policy as a folder in Hugging Face form: load it, write it, tell one model from another."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mica_ray.training.learner import LearnerError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Dtype = Literal["float32", "bfloat16"]

# Whatever belongs to the tokenizer and to generation; weights and config.json are written anew.
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
    """Load a causal language model for training, without dropout: the ratio of an on-policy update must be 1.

    Args:
        folder: config.json, weights and tokenizer in Hugging Face form.
        dtype: type of the parameters in memory.
        gradient_checkpointing: recompute activations in the backward pass instead of keeping them.

    Raises:
        LearnerError: the folder is missing or holds no causal language model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if not (folder / "config.json").is_file():
        raise LearnerError(f"policy folder {folder} holds no config.json; give a Hugging Face model folder")
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise LearnerError(
            f"policy folder {folder} does not load as a causal language model: {reason}"
        ) from error
    model.config.use_cache = False
    model.eval()
    if gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()  # transformers checkpoints in training mode only, so dropout is set to 0 by hand.
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if hasattr(module, "attention_dropout"):
                setattr(module, "attention_dropout", 0.0)  # noqa: B010 -- typed as a submodule
    return model


def fingerprint(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    """Give 16 hex digits that are equal for models with the same parameter names and shapes, in any order."""
    lines = sorted(f"{name} {tuple(shape)}" for name, shape in shapes)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def write_policy(
    folder: Path, model: PreTrainedModel, *, tensors: Mapping[str, torch.Tensor], tokenizer_from: Path
) -> None:
    """Write a folder that transformers and vLLM load: config, one safetensors file, tokenizer files.

    Args:
        folder: created when missing.
        model: where the config comes from; its own parameters are not read (they may be shards).
        tensors: full parameters by name, tied ones once.
        tokenizer_from: the folder the tokenizer's files are copied from, byte for byte.
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
    """Give the parameters that `write_policy` wrote, by name, on the CPU."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")
