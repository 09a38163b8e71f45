"""Load a policy sharded (ZeRO stage 3): no rank ever holds more than its share of the weights.

The unsharded loading is in policy_folder.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mica_ray.error_lines import raised_as
from mica_ray.training.learner import LearnerError
from mica_ray.training.policy_folder import Dtype, check_policy_folder, prepare_training
from mica_ray.training.sharded.zero_settings import import_deepspeed

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
"""Names of types in safetensors headers, and in torch."""


def can_load_sharded(folder: Path) -> bool:
    """Whether the weights are in safetensors files. Others are loaded whole and sharded afterwards."""
    return (folder / _INDEX).is_file() or (folder / _SINGLE).is_file()


def load_sharded(
    folder: Path,
    settings: Mapping[str, object],
    *,
    dtype: Dtype,
    gradient_checkpointing: bool | None,
    rank: int,
) -> PreTrainedModel | None:
    """Load a causal language model whose parameters are shards from the start. Collective.

    The model is built from its config, and every parameter cut when it is made. Then each rank reads its
    range of each parameter from the weight files: at most its share of the weights and one whole parameter
    are in memory. The model still returns logits: `return_logprobs` needs an engine that gathers the
    parameters.

    Args:
        folder: config.json and weights in Hugging Face form.
        settings: of DeepSpeed, with ZeRO stage 3.
        dtype: type of the parameters in memory.
        gradient_checkpointing: as in `LearnerConfig`.
        rank: this rank.

    Returns:
        None if parameter names differ from those in the files (old or converted models): load it whole.

    Raises:
        LearnerError: the folder contains no causal language model, or a weight has another shape.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    check_policy_folder(folder)
    deepspeed = import_deepspeed()
    deepspeed.init_distributed(dist_init_required=False)  # It adopts torch's open process group.
    problem = f"Policy folder {folder} cannot be loaded as a causal language model"
    with raised_as(LearnerError, problem, "Use a complete Hugging Face model folder."):
        config = AutoConfig.from_pretrained(folder)
        # By default it would also make every other tensor bfloat16, rotary frequencies among them.
        overrides = [deepspeed.zero.DeepSpeedTensorOverride.device]
        sharding = deepspeed.zero.Init(config_dict_or_path=dict(settings), tensor_overrides=overrides)
        with no_init_weights(), sharding:
            model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
        model.tie_weights()
        missing = {name for name, _ in model.named_parameters()}
        for path in _weight_files(folder):
            missing -= set(_copy_shares(model, path, rank=rank))
    if missing:
        return None
    prepare_training(model, gradient_checkpointing=gradient_checkpointing)
    return model


def _weight_files(folder: Path) -> list[Path]:
    if not (folder / _INDEX).is_file():
        return [folder / _SINGLE]
    names: dict[str, str] = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"]
    return [folder / name for name in sorted(set(names.values()))]


def _copy_shares(model: PreTrainedModel, path: Path, *, rank: int) -> Iterator[str]:
    """Copy this rank's share of every parameter in one file; yield the names of the parameters.

    The ranges are read, not mapped: mapped pages would count as memory of every rank.
    """
    import torch

    parameters: dict[str, Any] = dict(model.named_parameters())
    with torch.no_grad(), path.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(header_size))
        for name, entry in header.items():
            parameter = parameters.get(name)
            if parameter is None:
                continue
            if tuple(entry["shape"]) != tuple(parameter.ds_shape):
                shapes = f"{tuple(entry['shape'])}, its config {tuple(parameter.ds_shape)}"
                raise LearnerError(f"{path} has {name} of shape {shapes}. Use a complete model folder.")
            dtype: torch.dtype = getattr(torch, _DTYPES[entry["dtype"]])
            padded = parameter.ds_tensor.numel()
            start = rank * padded
            length = max(0, min(padded, parameter.ds_numel - start))
            if length:
                file.seek(8 + header_size + entry["data_offsets"][0] + start * dtype.itemsize)
                share = torch.frombuffer(_read(file, length * dtype.itemsize), dtype=dtype)
                parameter.ds_tensor.narrow(0, 0, length).copy_(share)
            yield name


def _read(file: BinaryIO, size: int) -> bytearray:
    """Read without a second copy of the bytes.

    Raises:
        EOFError: the file is cut off.
    """
    found = bytearray(size)
    if file.readinto(found) != size:  # type: ignore[attr-defined]
        raise EOFError("the file is cut off")
    return found
