"""The recipe of the embedded policy: sizes, amount of warm-up and seed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EmbeddedPolicyRecipe:
    """Everything the embedded policy's weights follow from, except domain and code."""

    seed: int = 0
    num_dialogues: int = 7000
    num_turns: tuple[int, ...] = (2, 3, 4, 8)
    """Turns of the warm-up dialogues, in rotation. Short ones cover more people in the same time."""
    num_drills: int = 7200
    """Exchanges that train nothing but naming, most of them early."""
    topics_per_drill: int = 8
    num_tokenized: int = 2000
    """Dialogues that the tokenizer is trained on."""
    vocabulary_size: int = 2048
    """Enough for every word of the grammar to be one token, since the policy names a topic by copying it."""
    hidden_size: int = 128
    num_layers: int = 2
    num_heads: int = 4
    """Heads of 32 dimensions each, the smallest size that the attention kernels of vLLM support."""
    context_length: int = 1024
    batch_size: int = 4
    """Dialogues per step. A step of drills has twice as many, since they are half as long."""
    learning_rate: float = 2e-3
    num_threads: int = 2
    """Fixed: the number of threads sets the order of summation, and with it the exact weights."""
