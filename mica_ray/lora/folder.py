"""An adapter as a folder in peft's form, with the base model's config and tokenizer files beside it.

merge.py makes a full model folder of it.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mica_ray.files import JsonFileError, read_json_object, write_json
from mica_ray.lora.adapter import Adapter, LoraError

ADAPTER_FILE = "adapter_config.json"
"""Its presence makes a folder an adapter, for peft and for us."""
_TENSORS = "adapter_model.safetensors"
_BASE_FILE = "mica_base.json"
_PREFIX = "base_model.model."
"""What peft puts before the names of tensors in files."""
_SAMPLES, _SAMPLE_BYTES = 64, 4096
"""Pieces of a weight file that are compared instead of all its bytes, and their size."""


@dataclass(frozen=True, slots=True)
class BaseRecord:
    """The base model of an adapter that a learner wrote."""

    dtype: str
    """Type of the weights in training; a merged model has it too."""
    digest: str
    """`weights_digest` of the base model's folder."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder contains an adapter instead of a model."""
    return (folder / ADAPTER_FILE).is_file()


def write_adapter(folder: Path, adapter: Adapter, *, base: str, record: BaseRecord | None = None) -> None:
    """Write an adapter in peft's form.

    Args:
        folder: created when missing.
        adapter: whole tensors.
        base: hub id or absolute folder of the base model.
        record: what a merge checks; None for an adapter that only an engine reads.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {_PREFIX + name: tensor.detach().cpu().contiguous() for name, tensor in adapter.tensors.items()},
        folder / _TENSORS,
        metadata={"format": "pt"},
    )
    settings: dict[str, object] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": adapter.rank,
        "lora_alpha": adapter.scale * adapter.rank,
        "lora_dropout": 0.0,
        "target_modules": sorted({layer.split(".")[-1] for layer in adapter.layers}),
        "bias": "none",
        "inference_mode": True,
    }
    write_json(folder / ADAPTER_FILE, settings)
    if record is not None:
        write_json(folder / _BASE_FILE, asdict(record))


def read_adapter(folder: Path) -> Adapter:
    """Read the tensors and the scale of an adapter, on the CPU.

    Raises:
        LoraError: a file is missing or broken, or it is another kind of adapter.
    """
    from safetensors.torch import load_file

    settings = _settings(folder)
    if settings.get("peft_type") != "LORA" or settings.get("use_dora") or settings.get("use_rslora"):
        raise LoraError(f"{folder}: only plain LoRA adapters can be merged. Merge it with peft itself.")
    if settings.get("alpha_pattern") or settings.get("rank_pattern"):
        raise LoraError(f"{folder}: the layers have different ranks or scales. Merge it with peft itself.")
    try:
        tensors = load_file(folder / _TENSORS)
        scale = float(settings["lora_alpha"]) / int(settings["r"])
    except Exception as error:  # The library raises its own classes for broken files.
        raise LoraError(
            f"{folder}: the adapter cannot be read ({error}). Use a complete checkpoint."
        ) from error
    return Adapter({name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}, scale)


def read_base_record(folder: Path) -> BaseRecord | None:
    """Return what the learner wrote about the base model; None for an adapter from elsewhere.

    Raises:
        LoraError: the file is broken.
    """
    if not (folder / _BASE_FILE).is_file():
        return None
    try:
        return BaseRecord(**read_json_object(folder / _BASE_FILE))
    except (JsonFileError, TypeError) as error:
        raise LoraError(f"{folder / _BASE_FILE} is unreadable ({error}). Use another checkpoint.") from error


def check_base(adapter: Path, base: Path) -> BaseRecord | None:
    """Check that an adapter was trained from a base model; return its record, None for one from elsewhere.

    Raises:
        LoraError: the base model has other weights, or the record is broken.
    """
    record = read_base_record(adapter)
    if record is not None and record.digest != weights_digest(base):
        raise LoraError(
            f"{base} has other weights than the base model that {adapter} was trained from. Restore them, or "
            f"name the right folder as base_model_name_or_path in {adapter / ADAPTER_FILE}."
        )
    return record


def base_of(folder: Path) -> str:
    """Return the hub id or folder of an adapter's base model.

    Raises:
        LoraError: the adapter does not name one.
    """
    base = _settings(folder).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise LoraError(f"{folder / ADAPTER_FILE} names no base model. Set base_model_name_or_path in it.")
    return base


def adapter_rank(folder: Path) -> int:
    """Return the rank of an adapter.

    Raises:
        LoraError: the adapter does not state one.
    """
    rank = _settings(folder).get("r")
    if not isinstance(rank, int) or rank < 1:
        raise LoraError(f"{folder / ADAPTER_FILE}: r must be a rank >= 1, got {rank!r}. Correct it.")
    return rank


def weights_digest(folder: Path) -> str:
    """Return 16 hex digits that tell the weights of two model folders apart, in a second or less.

    Each file of weights counts with its size and 64 pieces of 4 KiB, evenly spread.
    """
    digest = hashlib.blake2b(digest_size=8)
    paths = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    for path in paths:
        size = path.stat().st_size
        digest.update(f"{size}".encode())
        with path.open("rb") as file:
            for index in range(_SAMPLES):
                file.seek(index * max(0, size - _SAMPLE_BYTES) // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def copy_small_files(source: Path, folder: Path) -> None:
    """Copy tokenizer, template and generation files, everything except weights and what belongs to them."""
    for path in sorted(source.iterdir()):
        is_small = path.suffix in (".json", ".jinja", ".model", ".txt") and path.is_file()
        belongs_to_weights = path.name in ("config.json", ADAPTER_FILE, _BASE_FILE) or ".index." in path.name
        if is_small and not belongs_to_weights:
            shutil.copyfile(path, folder / path.name)


def _settings(folder: Path) -> dict[str, Any]:
    try:
        return read_json_object(folder / ADAPTER_FILE)
    except JsonFileError as error:
        raise LoraError(f"{error} Use a complete adapter folder.") from error
