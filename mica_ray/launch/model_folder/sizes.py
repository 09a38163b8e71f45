"""Check the sizes in config.json, before a library builds a model of these sizes.

Building takes about 30 ms per layer, even without weights. Small differences from the weight files are found
in trial_load.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from mica_ray.config.references import ConfigError
from mica_ray.launch.model_folder.text_files import AGAIN

MAX_LAYERS = 4096
"""Limit of layers and experts. The deepest published language models have some hundred layers."""
_MAX_SIZE = 2**30
"""Limit of any other size. The longest published contexts have 10 million tokens."""
_LAYERS = frozenset({"num_hidden_layers", "n_layer", "n_layers", "num_layers"})
_EXPERTS = frozenset({"num_experts", "num_local_experts", "n_routed_experts"})
_DIMENSIONS = frozenset(
    {
        *("hidden_size", "n_embd", "d_model", "vocab_size", "intermediate_size", "n_inner", "ffn_dim"),
        *("moe_intermediate_size", "num_attention_heads", "n_head", "n_heads", "num_heads"),
        *("num_key_value_heads", "head_dim"),
    }
)
"""Fields whose value is at most the longest dimension of the model's tensors."""
_POSITIONS = frozenset({"max_position_embeddings", "n_positions"})
_MAY_BE_ZERO = _EXPERTS | {"moe_intermediate_size", "intermediate_size", "num_key_value_heads"}
"""Zero means that the model has no such part."""

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of each tensor by its name."""


def check_sizes(folder: Path, key: str, config: Mapping[str, object]) -> None:
    """Check that the sizes are whole numbers that some model could have.

    Args:
        folder: of the model.
        key: config key of the model, for messages.
        config: content of config.json, with the configurations of parts such as text_config.

    Raises:
        ConfigError: a size is not an integer, too small or too large.
    """
    for place, fields in _parts(config):
        for name, value in _sizes(fields):
            least = 0 if name in _MAY_BE_ZERO else 1
            most = MAX_LAYERS if name in _LAYERS | _EXPERTS else _MAX_SIZE
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                wanted = f"must be an integer in [{least}, {most}]"
                raise _wrong(folder, key, f"{place}{name} {wanted}, got {_shown(value)}")
        kinds = fields.get("layer_types")
        if isinstance(kinds, list) and len(kinds) > MAX_LAYERS:
            fault = f"{place}layer_types must have at most {MAX_LAYERS} entries, got {len(kinds)}"
            raise _wrong(folder, key, fault)


def compare_sizes(folder: Path, key: str, config: Mapping[str, object], shapes: Shapes) -> None:
    """Check that the weight files can belong to a model of these sizes.

    Compares the number of layers with the highest number in the tensors' names, and every other size with the
    longest dimension. Reads no file.

    Args:
        folder: of the model.
        key: config key of the model, for messages.
        config: content of config.json.
        shapes: of all tensors of the weight files; empty if unknown.

    Raises:
        ConfigError: the model would have more layers than the files, or a larger dimension.
    """
    if not shapes:
        return
    num_layers = max((_layer(name) for name in shapes), default=-1) + 1
    longest = max((size for shape in shapes.values() for size in shape), default=0)
    for place, fields in _parts(config):
        # Files with only the text model can keep the configuration of an image or audio encoder.
        for name, value in _sizes(fields) if place in ("", "text_config.") else ():
            if not isinstance(value, int):
                continue
            if name in _LAYERS and value > num_layers:
                fault = f"{place}{name} is {value}, but the weight files have {num_layers} layers"
                raise _wrong(folder, key, fault)
            if name in _DIMENSIONS and value > longest:
                fault = (
                    f"{place}{name} is {value}, but no tensor of the weight files is longer than {longest}"
                )
                raise _wrong(folder, key, fault)


def _parts(config: Mapping[str, object]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield the configuration and those of its parts, each with the beginning of its fields' paths."""
    yield "", config
    for name, part in config.items():
        if name.endswith("_config") and isinstance(part, Mapping):
            yield f"{name}.", part


def _sizes(fields: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield each size; some models have a list with one value per layer. None means the default."""
    for name in sorted((_LAYERS | _EXPERTS | _DIMENSIONS | _POSITIONS).intersection(fields)):
        value = fields[name]
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                yield name, one


def _layer(tensor: str) -> int:
    """Return the first number in a tensor's name, which is that of its layer; -1 without one."""
    return next((int(part) for part in tensor.split(".") if part.isdecimal() and len(part) < 9), -1)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _wrong(folder: Path, key: str, fault: str) -> ConfigError:
    remedy = f"Correct config.json, or {AGAIN[0].lower()}{AGAIN[1:]}"
    return ConfigError(f"{key} {folder / 'config.json'}: {fault}. {remedy}")
