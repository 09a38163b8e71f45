"""Whether a model folder can be used: one rule for policies, role models, `--dry-run` and `mica doctor`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from mica_ray.config.references import ConfigError
from mica_ray.launch.model_folder.sizes import check_sizes, compare_sizes
from mica_ray.launch.model_folder.text_files import check_text_files
from mica_ray.launch.model_folder.trial_load import load_config, load_template, load_without_weights
from mica_ray.launch.model_folder.weight_files import check_weight_files
from mica_ray.rollout.prompting.appending import History

_VLLM_PACKAGES: Mapping[str, str] = {
    "awq": "",
    "gptq": "",
    "compressed-tensors": "compressed_tensors",
    "fp8": "",
    "mxfp4": "",
    "bitsandbytes": "bitsandbytes",
    "torchao": "torchao",
    "quark": "quark",
    "auto-round": "",
    "gguf": "gguf",
    "modelopt": "",
}
"""Quantization methods that vLLM loads, and the package that each needs beside vLLM."""


@dataclass(frozen=True, slots=True)
class ModelUse:
    """What a model folder is used for."""

    key: str = "policy"
    """Config key of the model, for messages."""
    loader: Literal["transformers", "vllm"] = "transformers"
    """What generates with it."""
    is_trained: bool = False
    """Whether a learner updates its weights."""
    template_arguments: Mapping[str, bool | int | str] = field(default_factory=dict[str, bool | int | str])
    history: History = "template"
    """How its prompts contain earlier replies."""


def check_model_folder(folder: Path, use: ModelUse, *, has_weights: bool = True) -> None:
    """Check everything that loading the model would refuse later.

    Reads the small files and the headers of the weight files. A folder that has not changed since it passed
    is not loaded again.

    Args:
        folder: of the model.
        use: what it is used for.
        has_weights: whether the weights must be there; False before they are downloaded.

    Raises:
        ConfigError: the first fault, with the file and the remedy.
    """
    config = check_text_files(folder, use.key)
    _check_code(folder, use.key, config)
    method = _quantization(folder, use, config)
    check_sizes(folder, use.key, config)
    _load(folder, use.key, tuple(use.template_arguments.items()), use.history, _state(folder))
    if not has_weights:
        return
    compare_sizes(folder, use.key, config, check_weight_files(folder, use.key))
    # transformers needs packages for a quantized model that vLLM loads without them.
    if method is None or use.loader == "transformers":
        _match(folder, use.key, _state(folder))


_State = frozenset[tuple[str, int, int]]
"""Name, size and time of change of every file of a folder."""


def _state(folder: Path) -> _State:
    return frozenset(
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.iterdir()
        if path.is_file()
    )


@lru_cache(maxsize=64)
def _load(
    folder: Path,
    key: str,
    arguments: tuple[tuple[str, bool | int | str], ...],
    history: History,
    state: _State,
) -> None:
    config = load_config(folder, key)
    size = getattr(config.get_text_config(), "vocab_size", None)
    vocabulary = size if isinstance(size, int) else None
    load_template(folder, key, dict(arguments), vocabulary=vocabulary, history=history)


@lru_cache(maxsize=64)
def _match(folder: Path, key: str, state: _State) -> None:
    load_without_weights(folder, key)


def _check_code(folder: Path, key: str, config: Mapping[str, object]) -> None:
    """Refuse a model that needs Python code from its folder, which is never run."""
    if "auto_map" not in config:
        return
    from transformers import CONFIG_MAPPING

    kind = config.get("model_type")
    if kind not in CONFIG_MAPPING:
        raise ConfigError(
            f"{key} {folder}: model_type {kind!r} needs Python code from its folder (auto_map), which is not "
            "run. Use a model that transformers contains."
        )


def _quantization(folder: Path, use: ModelUse, config: Mapping[str, object]) -> str | None:
    """Return the quantization method of the weights; None for plain weights."""
    quantization = config.get("quantization_config") or config.get("compression_config")
    if not quantization:
        return None
    place = f"{use.key} {folder / 'config.json'}"
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    if not isinstance(method, str):
        raise ConfigError(f"{place}: quantization_config has no quant_method. Download the model again.")
    if use.is_trained:
        raise ConfigError(
            f"{place}: the weights are quantized ({method}), and a learner cannot train them. Use the "
            "version of the model without quantization."
        )
    if method not in (known := sorted(_VLLM_PACKAGES) if use.loader == "vllm" else _transformers_methods()):
        raise ConfigError(
            f"{place}: {use.loader} does not know quantization {method!r}. Use one of {', '.join(known)}, or "
            "a version without quantization."
        )
    package = _VLLM_PACKAGES.get(method, "") if use.loader == "vllm" else ""
    if package and find_spec(package) is None:
        raise ConfigError(
            f"{place}: quantization {method} needs the package {package}, which is not installed. Install "
            "it, or use a version without quantization."
        )
    return method


def _transformers_methods() -> list[str]:
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    return sorted({name.removesuffix("_4bit").removesuffix("_8bit") for name in AUTO_QUANTIZER_MAPPING})
