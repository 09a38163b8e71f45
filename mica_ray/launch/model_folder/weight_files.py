"""Check header and size of every weight file of a model folder, without reading the weights."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from mica_ray.config.references import ConfigError
from mica_ray.error_lines import raised_as
from mica_ray.files import JsonFileError, read_json_object
from mica_ray.launch.model_folder.sizes import Shapes
from mica_ray.launch.model_folder.text_files import AGAIN, check_content

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_LENGTH_BYTES = 8
"""A safetensors file starts with the length of its header, little-endian."""
_OLD_PICKLE = b"\x80\x02"
"""First bytes of a PyTorch file from before it was a zip archive."""
_FOREIGN = ("*.gguf", "*.h5", "*.msgpack", "*.onnx", "*.pt", "*.pth", "*.ckpt", "*.npz")


def check_weight_files(folder: Path, key: str) -> Shapes:
    """Check every weight file that is loaded: safetensors, or PyTorch files where there are none.

    Args:
        folder: of the model.
        key: config key of the model, for messages.

    Returns:
        Shape of each tensor; none for PyTorch files from before they were zip archives.

    Raises:
        ConfigError: no weights, a missing shard or tensor, a Git LFS pointer, an empty or truncated file.
    """
    indexed = {name: _read_index(folder / name, key) for name in _INDEXES if (folder / name).exists()}
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    shards = {name for index in indexed.values() for name in index.values()}
    for name in sorted(shards):
        # Of two indexes, the one without any file belongs to a format that was not downloaded.
        if folder / name not in files and any(path.suffix == Path(name).suffix for path in files):
            raise ConfigError(f"{key} {folder / name}: is missing, and the index names it. {AGAIN}")
    if not files:
        raise ConfigError(_no_weights(folder, key, shards))
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        size = check_content(path, key)
        if path.suffix == ".bin":
            shapes.update(_read_pickle(path, key))
            continue
        tensors = _read_header(path, key, size)
        shapes.update(tensors)
        expected = {
            tensor for index in indexed.values() for tensor, file in index.items() if file == path.name
        }
        if missing := sorted(expected - tensors.keys()):
            raise ConfigError(
                f"{key} {path}: lacks {len(missing)} tensors that the index places there, the first is "
                f"{missing[0]}. {AGAIN}"
            )
    return shapes


def _read_index(path: Path, key: str) -> Mapping[str, str]:
    """Return the file name of each tensor."""
    check_content(path, key)
    try:
        weight_map = read_json_object(path).get("weight_map")
    except JsonFileError as error:
        raise ConfigError(f"{key} {error} {AGAIN}") from error
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise ConfigError(f"{key} {path}: weight_map must map tensors to files. {AGAIN}")
    return cast(dict[str, str], weight_map)


def _no_weights(folder: Path, key: str, shards: set[str]) -> str:
    if shards:
        return f"{key} {folder / min(shards)}: is missing, like all {len(shards)} files of the index. {AGAIN}"
    foreign = next((path.name for pattern in _FOREIGN for path in sorted(folder.glob(pattern))), None)
    if foreign is not None:
        return (
            f"{key} {folder / foreign}: weights in this format cannot be loaded. Convert them to safetensors."
        )
    return f"{key} {folder}: the weights (model.safetensors) are missing. {AGAIN}"


def _read_header(path: Path, key: str, size: int) -> Shapes:
    """Return the tensors of a safetensors file, after comparing its header with its size."""
    from safetensors import safe_open

    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if size < _LENGTH_BYTES or length > size - _LENGTH_BYTES:
            raise ConfigError(
                f"{key} {path}: is cut off or no safetensors file; its header should have {length} bytes, "
                f"the file has {size}. {AGAIN}"
            )
        with raised_as(ConfigError, f"{key} {path}: the header cannot be read", AGAIN):
            header = cast(dict[str, dict[str, list[int]]], json.loads(file.read(length)))
            tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
            end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    wanted = _LENGTH_BYTES + length + end
    if wanted != size:
        fault = "is cut off" if size < wanted else "is longer than its header says"
        raise ConfigError(f"{key} {path}: {fault}; expected {wanted} bytes, got {size}. {AGAIN}")
    # The library checks everything else of the header: types, shapes, overlaps.
    with raised_as(ConfigError, f"{key} {path}: the header is invalid", AGAIN), safe_open(path, "np"):
        return {name: tuple(entry["shape"]) for name, entry in tensors.items()}


def _read_pickle(path: Path, key: str) -> Shapes:
    """Return the tensors of a PyTorch file without reading their values."""
    with path.open("rb") as file:
        is_old = file.read(len(_OLD_PICKLE)) == _OLD_PICKLE
    # The list of contents is at the end of a zip archive, so a cut-off one has none.
    if not is_old and not zipfile.is_zipfile(path):
        raise ConfigError(f"{key} {path}: is cut off or no PyTorch file. {AGAIN}")
    if is_old:
        return {}
    import torch

    with raised_as(ConfigError, f"{key} {path}: cannot be read as a PyTorch file", AGAIN):
        stored = torch.load(path, map_location="meta", mmap=True, weights_only=True)
        return {name: tuple(value.shape) for name, value in stored.items() if hasattr(value, "shape")}
