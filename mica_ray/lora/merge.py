"""A full model folder from an adapter and its base model, written completely or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mica_ray.error_lines import raised_as
from mica_ray.lora.adapter import LoraError
from mica_ray.lora.folder import check_base, copy_small_files, read_adapter, weights_digest

if TYPE_CHECKING:
    import torch

_PARTIAL = ".partial-"


def write_merged(adapter: Path, base: Path, out: Path) -> None:
    """Write the base model with the adapter added to its weights, as a folder that transformers loads.

    The weights are those that the learner computed with, bit for bit: added in fp32, rounded once to the type
    of training.

    Args:
        adapter: folder of the adapter.
        base: folder of its base model.
        out: must not exist; its parents are created.

    Raises:
        LoraError: the folder exists, the adapter is broken, or its base model is another one.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if out.exists():
        raise LoraError(f"{out} exists. Choose another folder, or delete it.")
    read, record = read_adapter(adapter), check_base(adapter, base)
    dtype: torch.dtype | str = "auto" if record is None else getattr(torch, record.dtype)
    with raised_as(
        LoraError, f"Base model {base} cannot be loaded", "Use a complete Hugging Face model folder."
    ):
        model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in read.merged(parameters.items()):
            if value is not parameters[name]:
                parameters[name].copy_(value)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.parent / f"{_PARTIAL}{out.name}-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        model.save_pretrained(partial)
        for source in (base, adapter):
            copy_small_files(source, partial)
        _rename(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def merged_folder(adapter: Path, base: Path, cache: Path) -> Path:
    """Return a folder with the merged model, written on first use and found again afterwards.

    Args:
        adapter: folder of the adapter.
        base: folder of its base model.
        cache: folder in which merged models are kept, one for each content of adapter and base.

    Raises:
        LoraError: as for `write_merged`.
    """
    found = cache / f"{base.name}-{_content(adapter, base)}"
    if not found.is_dir():
        write_merged(adapter, base, found)
    return found


def _content(adapter: Path, base: Path) -> str:
    """Return a digest of everything that determines the merged folder."""
    digest = hashlib.blake2b(weights_digest(base).encode(), digest_size=8)
    for path in sorted(adapter.iterdir()):
        if path.is_file():
            digest.update(path.name.encode())
            digest.update(hashlib.file_digest(path.open("rb"), "blake2b").digest())
    return digest.hexdigest()


def _rename(partial: Path, out: Path) -> None:
    """Rename the finished folder, unless another process has done so meanwhile."""
    try:
        partial.rename(out)
    except OSError:
        if not out.is_dir():
            raise
