"""Where a policy comes from and whether it can be trained: files only, no model is loaded or made here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mica_ray.config.references import ConfigError
from mica_ray.config.role_config import EMBEDDED
from mica_ray.embedded.recipe import EmbeddedPolicyRecipe

_EMBEDDED_HEAD_SIZE = 32
"""Dimensions of an attention head of the embedded policy."""

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_SMALL_FILES = ("*.json", "*.jinja", "*.model", "*.txt")
"""What tells whether a hub model can be trained, without its weights."""


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """What the files of a model folder say of it."""

    folder: Path
    architecture: str
    context_length: int | None
    """Tokens the model was made for; None when its config does not say."""
    parameters: int | None
    """Estimated from the size of the weight files; None when only the small files are here."""


def fetch_policy(policy: str, *, weights: bool = True, key: str = "policy") -> Path:
    """Give the local folder of a model folder or hub id, fetching the latter.

    Args:
        policy: a path, or a hub id such as `Qwen/Qwen3-8B`. Not "embedded".
        weights: whether the weights are needed; without them only configuration and tokenizer are fetched.
        key: the config key that asked for it, for messages.

    Raises:
        ConfigError: there is no such folder, or the hub gives no such model.
    """
    folder = Path(policy).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if folder.is_absolute() or policy.startswith((".", "~")) or policy.count("/") != 1:
        other = f", a hub id or {EMBEDDED!r}" if key == "policy" else " or a hub id"
        raise ConfigError(f"{key} {policy}: no such folder; give a model folder{other}")
    from huggingface_hub import snapshot_download

    patterns: list[str] | None = None if weights else list(_SMALL_FILES)
    try:
        return Path(snapshot_download(policy, allow_patterns=patterns))
    except Exception as error:  # The hub client raises its own, httpx's and the operating system's errors.
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        place = "vllm:FOLDER" if key.startswith("roles.") else "FOLDER"
        raise ConfigError(
            f"{key} {policy}: not fetched from the hub ({reason}); give a folder by --set {key}={place}"
        ) from error


def read_policy_facts(folder: Path, key: str = "policy") -> PolicyFacts:
    """Check that a folder holds a chat model that can be trained, and say what it is.

    Raises:
        ConfigError: configuration, tokenizer or chat template are missing.
    """
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise ConfigError(f"{key} {folder}: no config.json; give a Hugging Face model folder")
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ConfigError(
            f"{key} {folder}: no tokenizer (tokenizer.json); save the model's tokenizer beside its weights"
        )
    if not _has_chat_template(folder):
        raise ConfigError(
            f"{key} {folder}: no chat template (chat_template.jinja); take the model's instruct version"
        )
    config = _read_json(config_file)
    text_config = config.get("text_config")
    context = (text_config if isinstance(text_config, dict) else config).get("max_position_embeddings")
    architectures = config.get("architectures")
    return PolicyFacts(
        folder=folder,
        architecture=str(architectures[0])
        if isinstance(architectures, list) and architectures
        else "unknown",
        context_length=context if isinstance(context, int) else None,
        parameters=_num_parameters(folder, str(config.get("dtype", config.get("torch_dtype", "bfloat16")))),
    )


def embedded_facts(recipe: EmbeddedPolicyRecipe) -> PolicyFacts:
    """Say what the embedded policy will be, without making it."""
    width, inner = recipe.hidden_size, recipe.num_heads * _EMBEDDED_HEAD_SIZE
    # Queries, keys, values and output; three matrices of the MLP, thrice as wide; four norms.
    layer = 4 * width * inner + 9 * width**2 + 2 * width + 2 * _EMBEDDED_HEAD_SIZE
    return PolicyFacts(
        folder=Path(EMBEDDED),
        architecture="Qwen3ForCausalLM",
        context_length=recipe.context_length,
        parameters=recipe.vocabulary_size * width + recipe.num_layers * layer + width,
    )


def check_context(facts: PolicyFacts, wanted: int, key: str) -> None:
    """Refuse a context longer than the model's.

    Args:
        facts: of the policy.
        wanted: tokens of one whole dialogue.
        key: the config key that asked for it, for the message.

    Raises:
        ConfigError: the model is too short.
    """
    if facts.context_length is not None and wanted > facts.context_length:
        raise ConfigError(
            f"{key}: {wanted} tokens exceed {facts.context_length}, the context of {facts.folder.name}; "
            f"use --set {key}={facts.context_length} or less"
        )


def _num_parameters(folder: Path, dtype: str) -> int | None:
    """Estimate the parameters from the weight files' size; None where they are not here."""
    files = [path for pattern in ("*.safetensors", "*.bin") for path in folder.glob(pattern)]
    return sum(path.stat().st_size for path in files) // (4 if dtype == "float32" else 2) or None


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    tokenizer_config = folder / "tokenizer_config.json"
    return tokenizer_config.is_file() and bool(_read_json(tokenizer_config).get("chat_template"))


def _read_json(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold a JSON object")
    return content
