"""Load a model folder as a run does, but without its weights, to find what a library will refuse.

The files themselves are checked first, in text_files.py and weight_files.py, whose messages are plainer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from logging import CRITICAL
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

from mica_ray.config.references import ConfigError
from mica_ray.error_lines import raised_as
from mica_ray.files import read_json_object
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.prompting.appending import History

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


class _Found(TypedDict):
    """The part of transformers' loading report that is used."""

    missing_keys: set[str]
    unexpected_keys: set[str]
    mismatched_keys: set[tuple[str, tuple[int, ...], tuple[int, ...]]]


def load_template(
    folder: Path,
    key: str,
    arguments: Mapping[str, bool | int | str],
    *,
    vocabulary: int | None,
    history: History = "template",
) -> None:
    """Load tokenizer and chat template, and render a dialogue.

    Args:
        folder: of the model.
        key: config key of the model, for messages.
        arguments: of the chat template.
        vocabulary: rows of the model's embedding; None if unknown.
        history: how a prompt contains earlier replies.

    Raises:
        ConfigError: the tokenizer cannot be loaded, the template cannot render, or a token has no embedding.
    """
    with _quiet():
        try:
            template = ChatTemplate.from_folder(folder, arguments, history=history)
        except EngineError as error:
            raise ConfigError(f"{key}: {error}") from error
    if vocabulary is None:
        return
    prompt = template.prompt([{"role": "user", "content": "Hello."}])
    highest = max(*prompt, template.highest_token)
    if highest >= vocabulary:
        raise ConfigError(
            f"{key} {folder}: the tokenizer has token {highest}, and vocab_size in config.json is "
            f"{vocabulary}. Use the tokenizer of this model."
        )


def load_config(folder: Path, key: str) -> PretrainedConfig:
    """Load config.json as transformers does.

    Raises:
        ConfigError: transformers does not know the model, or a value does not fit.
    """
    import transformers

    problem = f"{key} {folder / 'config.json'}: transformers {transformers.__version__} cannot use it"
    remedy = f"Download the file again, or use a model that this version knows{_written_by(folder)}."
    with _quiet(), raised_as(ConfigError, problem, remedy):
        return cast(
            "PretrainedConfig", transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        )


def _written_by(folder: Path) -> str:
    version = read_json_object(folder / "config.json").get("transformers_version")
    return "" if version is None else f" (the file was written by {version})"


def load_without_weights(folder: Path, key: str) -> None:
    """Match the tensors of the weight files with those of the architecture, on the meta device.

    Takes 0.1 s for a model of 1 GB: only headers are read.

    Raises:
        ConfigError: the model cannot be loaded, or a tensor is missing, left over or has another shape.
    """
    from transformers import AutoModelForCausalLM

    problem = f"{key} {folder}: cannot be loaded as a causal language model"
    remedy = "Use a model that the installed libraries support, or download it again."
    with _quiet(), raised_as(ConfigError, problem, remedy):
        loaded: object = AutoModelForCausalLM.from_pretrained(
            folder,
            device_map="meta",
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
        )
        model, found = cast("tuple[PreTrainedModel, _Found]", loaded)
    if differing := sorted(found["mismatched_keys"]):
        name, stored, wanted = differing[0]
        fault = f"{name} has shape {tuple(stored)} and should have {tuple(wanted)}"
        raise _misfit(folder, key, fault, len(differing))
    if missing := sorted(found["missing_keys"]):
        raise _misfit(folder, key, f"they lack {missing[0]}", len(missing))
    # Further layers: transformers would leave them out, and vLLM would stop. Other surplus is harmless.
    known = {_without_numbers(name) for name in model.state_dict()}
    if surplus := sorted(name for name in found["unexpected_keys"] if _without_numbers(name) in known):
        raise _misfit(folder, key, f"the model has no {surplus[0]}", len(surplus))


def _misfit(folder: Path, key: str, fault: str, count: int) -> ConfigError:
    return ConfigError(
        f"{key} {folder}: weights and config.json do not fit: {fault} ({count} such tensors). "
        "Download the model again."
    )


def _without_numbers(name: str) -> str:
    return re.sub(r"\.\d+(?=\.)", ".N", name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers, whose reports our error replaces."""
    from transformers.utils import logging

    level, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bars:
            logging.enable_progress_bar()
