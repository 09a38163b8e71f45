"""Builds the embedded policy: a small Qwen3 model, warmed up on the scenario grammar.

Takes under two minutes on two cores; the result is cached by embedded/policy_key.py. The policy is weak on
purpose: it has the helpful phrases but seldom chooses the right one (embedded/grammar.py).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from mica_ray.control_marks import escape_marks
from mica_ray.dialogue.domain import Domain
from mica_ray.embedded.policy_key import policy_key
from mica_ray.embedded.recipe import EmbeddedPolicyRecipe
from mica_ray.embedded.warm_up import naming_drills, warm_up_dialogues
from mica_ray.types import Message

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
END_OF_TURN = "<|im_end|>"
_PADDING = "<|endoftext|>"
_SPECIAL = (_PADDING, "<|im_start|>", END_OF_TURN)

Report = Callable[[str, float], None]
"""Called with the name of the stage and the share done, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One warm-up dialogue as tokens."""

    token_ids: Sequence[int]
    first_reply: int
    """Tokens before the first reply, which are not trained: an opening cannot be predicted."""


def embedded_policy(
    domain: Domain, cache: Path, *, recipe: EmbeddedPolicyRecipe | None = None, report: Report | None = None
) -> Path:
    """Return the folder of the warmed-up policy, and build it if it is not cached.

    The folder is a plain Hugging Face model folder. It is written under a temporary name and then renamed, so
    that an interrupted build leaves no incomplete policy.

    Args:
        domain: source of prompts and rules of the warm-up dialogues.
        cache: folder of the cached policies.
        recipe: size, amount of warm-up and seed; None for the default.
        report: called with the progress.
    """
    recipe = recipe or EmbeddedPolicyRecipe()
    place = cache / f"embedded-policy-{policy_key(domain, recipe)}"
    if (place / "config.json").exists():
        return place
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="embedded-policy-", dir=cache))
    try:
        _make(domain, recipe, scratch, report or (lambda stage, share: None))
        scratch.chmod(0o755)
        os.replace(scratch, place)
    except OSError:
        # Another process may have built the same policy first: then its folder is used.
        if not (place / "config.json").exists():
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return place


def _make(domain: Domain, recipe: EmbeddedPolicyRecipe, directory: Path, report: Report) -> None:
    """Write tokenizer and warmed-up model to a folder."""
    import torch

    report("warm-up dialogues", 0.0)
    dialogues = warm_up_dialogues(
        domain, seed=recipe.seed, num_dialogues=recipe.num_dialogues, num_turns=recipe.num_turns
    )
    drills = naming_drills(
        domain, seed=recipe.seed, num_drills=recipe.num_drills, num_topics=recipe.topics_per_drill
    )
    tokenizer = _train_tokenizer(dialogues[: recipe.num_tokenized], recipe)
    rows, drill_rows = (
        [_row(tokenizer, talk, recipe.context_length) for talk in talks] for talks in (dialogues, drills)
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(recipe.num_threads)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            model = _new_model(tokenizer, recipe)
            batches = _mixed_batches(rows, drill_rows, recipe)
            _train(model, batches, recipe, pad_id=_SPECIAL.index(_PADDING), report=report)
    finally:
        torch.set_num_threads(threads)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _row(tokenizer: PreTrainedTokenizerFast, dialogue: Sequence[Message], context_length: int) -> _Row:
    """Convert a dialogue to tokens."""
    conversation = [
        {"role": str(message["role"]), "content": escape_marks(message["content"])} for message in dialogue
    ]
    token_ids = tokenizer.apply_chat_template(conversation, tokenize=True, return_dict=False)
    opening = tokenizer.apply_chat_template(
        conversation[:2], tokenize=True, return_dict=False, add_generation_prompt=True
    )
    return _Row(cast(list[int], token_ids)[:context_length], len(opening))


def _train_tokenizer(
    dialogues: Sequence[Sequence[Message]], recipe: EmbeddedPolicyRecipe
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer: it encodes any text, and common words as one token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary_size,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        (message["content"] for dialogue in dialogues for message in dialogue), trainer
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TURN,
        pad_token=_PADDING,
        chat_template=CHAT_TEMPLATE,
        model_max_length=recipe.context_length,
    )


def _new_model(tokenizer: PreTrainedTokenizerFast, recipe: EmbeddedPolicyRecipe) -> Qwen3ForCausalLM:
    """Build the untrained model: Qwen3's architecture with tied embeddings."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=3 * recipe.hidden_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=recipe.num_heads,
        num_key_value_heads=recipe.num_heads,
        head_dim=32,
        max_position_embeddings=recipe.context_length,
        # A short base, because the dialogues have only hundreds of tokens.
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        # The special tokens come first in the vocabulary.
        eos_token_id=_SPECIAL.index(END_OF_TURN),
        pad_token_id=_SPECIAL.index(_PADDING),
        bos_token_id=None,
        dtype="float32",
    )
    return Qwen3ForCausalLM(config)


def _train(
    model: Qwen3ForCausalLM,
    batches: Sequence[Sequence[_Row]],
    recipe: EmbeddedPolicyRecipe,
    *,
    pad_id: int,
    report: Report,
) -> None:
    """Train by next-token prediction from the first reply on, one step per batch.

    The user's later messages are trained too: they repeat the topic, which teaches naming it.
    """
    import torch

    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=0.0, betas=(0.9, 0.98), fused=True
    )
    model.train()
    for number, batch in enumerate(batches):
        share = number / len(batches)
        for parameters in optimizer.param_groups:
            parameters["lr"] = recipe.learning_rate * _rate(number, share)
        token_ids, is_trained = _laid_out(batch, pad_id)
        # No attention mask is needed: rows are padded on the right, which no real token attends to. The head
        # is a third of the work, so it runs only on tokens whose next token is trained.
        hidden = model.model(input_ids=token_ids).last_hidden_state[:, :-1][is_trained[:, 1:]]
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden), token_ids[:, 1:][is_trained[:, 1:]])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if number % 10 == 0:
            report(f"warm-up, loss {loss.item():.2f}", share)
    model.eval()


def _laid_out(batch: Sequence[_Row], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad rows to equal length; return token ids and the mask of trained ones, both [R, L]."""
    import torch

    lengths = torch.tensor([len(row.token_ids) for row in batch])
    width = int(lengths.max())
    token_ids = torch.tensor([[*row.token_ids, *[pad_id] * (width - len(row.token_ids))] for row in batch])
    columns = torch.arange(width)
    first = torch.tensor([row.first_reply for row in batch])
    return token_ids, (columns >= first[:, None]) & (columns < lengths[:, None])


def _rate(number: int, share: float) -> float:
    """Return the learning rate factor: 30 steps up, constant, then down to 1/20 over 40 %."""
    return min(1.0, (number + 1) / 30) * min(1.0, max(0.05, (1 - share) / 0.4))


def _mixed_batches(
    rows: Sequence[_Row], drills: Sequence[_Row], recipe: EmbeddedPolicyRecipe
) -> list[list[_Row]]:
    """Return the warm-up's batches in order: dialogues throughout, drills ever less often.

    After drills only, the first dialogues would undo the naming; mixed, neither undoes the other.
    """
    generator = np.random.default_rng(recipe.seed)
    talk = _batches(rows, recipe.batch_size, generator)
    naming = _batches(drills, 2 * recipe.batch_size, generator)
    # Position of each batch in [0, 1]. Half of the drills are in the first fifth, none in the last.
    positions = [*np.linspace(0, 1, len(talk)), *0.8 * generator.beta(1, 2.5, len(naming))]
    both = talk + naming
    return [both[index] for index in np.argsort(positions, kind="stable")]


def _batches(rows: Sequence[_Row], size: int, generator: np.random.Generator) -> list[list[_Row]]:
    """Divide rows into batches of similar length, in random order; every row occurs once."""
    order = np.argsort([len(row.token_ids) for row in rows], kind="stable")
    chunks = [order[at : at + size] for at in range(0, len(order), size)]
    generator.shuffle(chunks)
    return [[rows[index] for index in chunk] for chunk in chunks]
