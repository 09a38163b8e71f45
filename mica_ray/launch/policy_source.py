"""Find or download the model folder of a policy, merge an adapter into it, and check its files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mica_ray.config.references import ConfigError
from mica_ray.config.role_config import EMBEDDED
from mica_ray.embedded.recipe import EmbeddedPolicyRecipe
from mica_ray.error_lines import first_line
from mica_ray.files import read_json_object
from mica_ray.launch.memory.model_shape import ModelShape, read_shape
from mica_ray.launch.memory.processes import Model
from mica_ray.launch.model_folder.text_files import check_text_files, readable
from mica_ray.lora.adapter import LoraError
from mica_ray.lora.folder import base_of, is_adapter

_EMBEDDED_HEAD_SIZE = 32
"""Dimensions of an attention head of the embedded policy."""

_SMALL_FILES = ("*.json", "*.jinja", "*.model", "*.txt")
"""Files that show whether a hub model can be trained, without its weights."""


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """Facts about a model, read from the files of its folder."""

    folder: Path
    architecture: str
    context_length: int | None
    """Maximum tokens of the model; None if its config does not say."""
    parameters: int | None
    """Estimated from the size of the weight files, or else from the shape; None if both are unknown."""
    shape: ModelShape | None = None
    """None if the model is not a dense decoder."""

    @property
    def model(self) -> Model:
        """What the plan of the memory needs to know."""
        return Model(parameters=self.parameters, shape=self.shape)


def fetch_policy(policy: str, *, weights: bool = True, key: str = "policy") -> Path:
    """Return the local folder of a model folder, or of a hub model, which is downloaded first.

    An adapter is merged into its base model, in the user cache; without weights, it is represented by the
    base model.

    Args:
        policy: a path, or a hub id such as `Qwen/Qwen3-8B`. Not "embedded".
        weights: whether to download the weights; otherwise only configuration and tokenizer.
        key: config key of the model, for messages.

    Raises:
        ConfigError: there is no such folder, the download failed, or an adapter does not fit its base model.
    """
    folder = Path(policy).expanduser()
    with readable(folder, key):
        if folder.is_dir():
            return _whole_model(folder.resolve(), weights=weights, key=key)
        if folder.is_file():
            raise ConfigError(f"{key} {policy}: is a file. Use the folder that contains the model.")
    if folder.is_absolute() or policy.startswith((".", "~")) or policy.count("/") != 1:
        other = f", a hub id or {EMBEDDED!r}" if key == "policy" else " or a hub id"
        raise ConfigError(f"{key} {policy}: no such folder. Use a model folder{other}.")
    from huggingface_hub import snapshot_download

    patterns: list[str] | None = None if weights else list(_SMALL_FILES)
    try:
        found = Path(snapshot_download(policy, allow_patterns=patterns))
    except Exception as error:  # The hub client raises its own, httpx's and the operating system's errors.
        place = "vllm:FOLDER" if key.startswith("roles.") else "FOLDER"
        raise ConfigError(
            f"{key} {policy}: download from the hub failed ({first_line(error)}). "
            f"Set {key}={place} to use a local copy."
        ) from error
    return _whole_model(found, weights=weights, key=key)


def cache_folder() -> Path:
    """Return the folder in which models that this package makes are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mica_ray"


def is_here(policy: str) -> bool:
    """Whether a policy needs no download: a folder, and for an adapter its base model too."""
    folder = Path(policy).expanduser()
    try:
        return folder.is_dir() and (not is_adapter(folder) or is_here(base_of(folder)))
    except LoraError:
        return True  # Reading it will report the fault.


def adapter_base(adapter: Path, *, weights: bool = True, key: str = "policy") -> Path:
    """Return the model folder of an adapter's base model.

    Raises:
        ConfigError: the adapter names none, or there is no such model.
    """
    try:
        base = base_of(adapter)
    except LoraError as error:
        raise ConfigError(f"{key} {error}") from error
    if Path(base).expanduser().resolve() == adapter:
        raise ConfigError(f"{key} {adapter}: is its own base model. Correct base_model_name_or_path.")
    try:
        return fetch_policy(base, weights=weights, key=key)
    except ConfigError as error:
        raise ConfigError(
            f"{key} {adapter}: the base model of this adapter is missing ({str(error).rstrip('.')}). Restore "
            "it, or correct base_model_name_or_path in adapter_config.json."
        ) from error


def _whole_model(folder: Path, *, weights: bool, key: str) -> Path:
    """Return the folder itself, or that of an adapter's merged model; without weights, of its base model."""
    if not is_adapter(folder):
        return folder
    base = adapter_base(folder, weights=weights, key=key)
    try:
        if not weights:
            return base
        from mica_ray.lora.merge import merged_folder

        return merged_folder(folder, base, cache_folder() / "merged")
    except LoraError as error:
        raise ConfigError(f"{key} {error}") from error


def merge_policy(policy: str, out: Path) -> None:
    """Write the whole model of an adapter folder.

    Args:
        policy: folder of the adapter.
        out: must not exist.

    Raises:
        ConfigError: the folder is no adapter, its base model is missing or another one, or `out` exists.
    """
    from mica_ray.lora.merge import write_merged

    folder = Path(policy).expanduser().resolve()
    if not is_adapter(folder):
        raise ConfigError(
            f"{folder}: is no adapter (adapter_config.json is missing). Use the folder as it is."
        )
    base = adapter_base(folder)
    try:
        write_merged(folder, base, out)
    except LoraError as error:
        raise ConfigError(str(error)) from error


def read_policy_facts(folder: Path, key: str = "policy") -> PolicyFacts:
    """Check the small files of a model folder, and describe the model.

    Raises:
        ConfigError: configuration, tokenizer or chat template are missing or broken.
    """
    config = check_text_files(folder, key)
    text_config = config.get("text_config")
    context = (text_config if isinstance(text_config, dict) else config).get("max_position_embeddings")
    architectures = config.get("architectures")
    shape = read_shape(config)
    dtype = str(config.get("dtype", config.get("torch_dtype", "bfloat16")))
    return PolicyFacts(
        folder=folder,
        architecture=str(architectures[0])
        if isinstance(architectures, list) and architectures
        else "unknown",
        context_length=context if isinstance(context, int) else None,
        parameters=_num_parameters(folder, dtype) or (None if shape is None else shape.parameters),
        shape=shape,
    )


def folder_shape(folder: Path) -> ModelShape | None:
    """Return the shape of a model folder that was checked before; None if it is not a dense decoder."""
    return read_shape(read_json_object(folder / "config.json"))


def embedded_facts(recipe: EmbeddedPolicyRecipe) -> PolicyFacts:
    """Describe the embedded policy without making it."""
    shape = ModelShape(
        layers=recipe.num_layers,
        hidden=recipe.hidden_size,
        intermediate=3 * recipe.hidden_size,
        heads=recipe.num_heads,
        kv_heads=recipe.num_heads,
        head_size=_EMBEDDED_HEAD_SIZE,
        vocabulary=recipe.vocabulary_size,
        is_tied=True,
        has_query_key_norms=True,
    )
    return PolicyFacts(
        folder=Path(EMBEDDED),
        architecture="Qwen3ForCausalLM",
        context_length=recipe.context_length,
        parameters=shape.parameters,
        shape=shape,
    )


def check_context(facts: PolicyFacts, wanted: int, key: str) -> None:
    """Check that a context fits the model.

    Args:
        facts: of the model.
        wanted: tokens of the context.
        key: config key that asks for it, for the message.

    Raises:
        ConfigError: the model's context is shorter.
    """
    if facts.context_length is not None and wanted > facts.context_length:
        raise ConfigError(
            f"{key} must be <= {facts.context_length} (the context of {facts.folder.name}), got {wanted}. "
            "Lower it, or use a model with a longer context."
        )


def _num_parameters(folder: Path, dtype: str) -> int | None:
    """Estimate the number of parameters from the weight files; None if there are none."""
    files = [path for pattern in ("*.safetensors", "*.bin") for path in folder.glob(pattern)]
    sizes = [path.stat().st_size for path in files if path.is_file()]
    return sum(sizes) // (4 if dtype == "float32" else 2) or None
