"""A Qwen3 model small enough for tests, and token batches for it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mica_ray.types import TokenBatch

if TYPE_CHECKING:
    import torch

VOCABULARY = 200


def write_tiny_policy(folder: Path, *, seed: int = 0, layers: int = 2, is_tied: bool = True) -> Path:
    """Write a model folder of about 0.1 million random parameters; its tokenizer file is a stand-in."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=256,
        tie_word_embeddings=is_tied,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"stand": "in"}))
    return folder


def random_batch(seed: int, *, rows: int = 6, length: int = 24, groups: int = 3, step: int = 0) -> TokenBatch:
    """Build rows of random tokens; the second half of each row is trained as two turns."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(length // 2 + 2, length + 1, size=rows)
    columns = np.arange(length)
    mask = (columns >= length // 2) & (columns < lengths[:, None])
    turn = 2 * np.arange(rows)[:, None] + (columns >= length // 2 + 1)
    turn_ids = np.where(mask, turn, -1)
    advantages = generator.standard_normal(2 * rows)[turn]
    return TokenBatch(
        step=step,
        token_ids=np.where(columns < lengths[:, None], generator.integers(0, VOCABULARY, (rows, length)), 0),
        lengths=lengths,
        loss_mask=mask,
        advantages=np.where(mask, advantages, 0).astype(np.float32),
        behaviour_logprobs=np.where(mask, -np.log(VOCABULARY), 0).astype(np.float32),
        turn_ids=turn_ids,
        group=np.arange(rows) % groups,
        loss_tokens=int(mask.sum()),
        loss_turns=2 * rows,
    )


def copied(named: Iterable[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Copy each tensor before the next one is asked for."""
    return {name: tensor.detach().clone() for name, tensor in named}
