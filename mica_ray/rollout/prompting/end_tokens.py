"""The end tokens that a model folder lists, next to those of its chat template."""

from __future__ import annotations

from pathlib import Path


def listed_end_tokens(path: str | Path) -> frozenset[int]:
    """Return the end tokens of a model folder or hub id for generation.

    Read as vLLM does: eos_token_id, a number or a list, of generation_config.json, or of config.json without
    one. Empty if neither lists any.
    """
    from transformers import AutoConfig, GenerationConfig

    try:
        ends: object = GenerationConfig.from_pretrained(path).eos_token_id
    except (OSError, ValueError, TypeError):
        try:
            model = AutoConfig.from_pretrained(path)
            ends = GenerationConfig.from_model_config(model).eos_token_id
        except (OSError, ValueError, TypeError, KeyError):  # Loading the weights names what is wrong.
            return frozenset()
    listed = ends if isinstance(ends, list) else [ends]
    return frozenset(token for token in listed if isinstance(token, int))
