"""Check the small files of a model folder: configuration, tokenizer, chat template.

The weights are checked in weight_files.py; loading everything as a run does is in trial_load.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mica_ray.config.references import ConfigError
from mica_ray.files import JsonFileError, read_json_object

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_JSON_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "generation_config.json",
    "chat_template.json",
)
_OTHER_FILES = ("tokenizer.model", "spiece.model", "vocab.txt", "merges.txt", "chat_template.jinja")
_POINTER = b"version https://git-lfs"
"""First bytes of the file that Git leaves in place of a large one that was not fetched."""

AGAIN = "Download the model again."


def check_text_files(folder: Path, key: str) -> dict[str, object]:
    """Check that the small files are there and readable, and return the content of config.json.

    Args:
        folder: of the model.
        key: config key of the model, for messages.

    Raises:
        ConfigError: a file is missing, a Git LFS pointer, empty, unreadable or not JSON.
    """
    with readable(folder, key):
        names = {path.name for path in folder.iterdir()}
    if "config.json" not in names:
        raise ConfigError(f"{key} {folder}: config.json is missing. Use a Hugging Face model folder.")
    if not names.intersection(_TOKENIZER_FILES):
        raise ConfigError(
            f"{key} {folder}: the tokenizer (tokenizer.json) is missing. Save it next to the weights."
        )
    for name in (*_JSON_FILES, *_OTHER_FILES):
        if name in names:
            check_content(folder / name, key)
    found = {name: _json_object(folder / name, key) for name in _JSON_FILES if name in names}
    if "chat_template.jinja" not in names and not any(
        found.get(name, {}).get("chat_template") for name in ("chat_template.json", "tokenizer_config.json")
    ):
        raise ConfigError(
            f"{key} {folder}: the chat template (chat_template.jinja) is missing. "
            "Use the instruct version of the model."
        )
    return found["config.json"]


def check_content(path: Path, key: str) -> int:
    """Check that a file can be read and is neither empty nor a Git LFS pointer; return its size in bytes.

    Raises:
        ConfigError: with the file and its fault.
    """
    with readable(path, key), path.open("rb") as file:
        start, size = file.read(len(_POINTER)), path.stat().st_size
    if start == _POINTER:
        raise ConfigError(
            f"{key} {path}: is a Git LFS pointer, not the file itself. Run `git lfs pull` in its folder, or "
            "download the model again."
        )
    if size == 0:
        raise ConfigError(f"{key} {path}: is empty. {AGAIN}")
    return size


@contextmanager
def readable(path: Path, key: str) -> Iterator[None]:
    """Convert the operating system's refusal to read a file into one line.

    Raises:
        ConfigError: with the file and the reason.
    """
    try:
        yield
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        remedy = "Check its permissions." if isinstance(error, PermissionError) else AGAIN
        raise ConfigError(f"{key} {path}: cannot be read ({reason}). {remedy}") from error


def _json_object(path: Path, key: str) -> dict[str, object]:
    try:
        return read_json_object(path)
    except JsonFileError as error:
        raise ConfigError(f"{key} {error} {AGAIN}") from error
