"""Find or download the model folder of a policy, and check its files. Loads no model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mica_ray.config.references import ConfigError
from mica_ray.config.role_config import EMBEDDED
from mica_ray.embedded.recipe import EmbeddedPolicyRecipe
from mica_ray.error_lines import first_line
from mica_ray.launch.memory.model_shape import ModelShape, read_shape
from mica_ray.launch.memory.processes import Model
from mica_ray.launch.model_folder.text_files import check_text_files, readable

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

    Args:
        policy: a path, or a hub id such as `Qwen/Qwen3-8B`. Not "embedded".
        weights: whether to download the weights; otherwise only configuration and tokenizer.
        key: config key of the model, for messages.

    Raises:
        ConfigError: there is no such folder, or the download failed.
    """
    folder = Path(policy).expanduser()
    with readable(folder, key):
        if folder.is_dir():
            return folder.resolve()
        if folder.is_file():
            raise ConfigError(f"{key} {policy}: is a file. Use the folder that contains the model.")
    if folder.is_absolute() or policy.startswith((".", "~")) or policy.count("/") != 1:
        other = f", a hub id or {EMBEDDED!r}" if key == "policy" else " or a hub id"
        raise ConfigError(f"{key} {policy}: no such folder. Use a model folder{other}.")
    from huggingface_hub import snapshot_download

    patterns: list[str] | None = None if weights else list(_SMALL_FILES)
    try:
        return Path(snapshot_download(policy, allow_patterns=patterns))
    except Exception as error:  # The hub client raises its own, httpx's and the operating system's errors.
        place = "vllm:FOLDER" if key.startswith("roles.") else "FOLDER"
        raise ConfigError(
            f"{key} {policy}: download from the hub failed ({first_line(error)}). "
            f"Set {key}={place} to use a local copy."
        ) from error


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
