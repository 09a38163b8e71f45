"""How much faster is one pass over a whole dialogue than one row per turn, and is the gradient the same?

With Qwen3's template, whose history is kept as sampled: is a dialogue one row, with how many tokens, and do
engine and learner agree on it?

Command:   cluster/with-env python experiments/bench_one_pass.py [--json FILE]
Time:      about two minutes on two cores
Expected:  a ratio that grows with the number of turns, and gradients that differ by less than 1e-5; one row
           per dialogue, and log probabilities that differ by at most 1e-4 nats

A random tiny Qwen3 policy in fp32; medians of interleaved runs.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import statistics
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from mica_ray.losses import LossConfig, policy_loss
from mica_ray.packing import TemplateWarning, micro_batches, pack, split_turns
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine_policy import EnginePolicy
from mica_ray.rollout.local_engine import LocalEngine
from mica_ray.rollout.prompting.appending import History
from mica_ray.training.logprob_model import return_logprobs
from mica_ray.types import (
    Generation,
    Judgement,
    Message,
    Sampling,
    Scenario,
    State,
    Stop,
    TokenBatch,
    Trajectory,
    Turn,
)

VOCABULARY = 1024
ORIGIN: State = (0.0, 0.0, 0.0)
JUDGED = Judgement((0, 0, 0), (0, 0, 0), ORIGIN)
# As Qwen3's with thinking off: the prompt opens a reply with an empty thought, which earlier replies lack.
QWEN3_TEMPLATE = (
    "{% for message in messages %}<|im_start|> {{ message.role }} {{ message.content }} <|im_end|> "
    "{% endfor %}{% if add_generation_prompt %}<|im_start|> assistant <think> </think> {% endif %}"
)
SCENARIO = Scenario("bench", "bench", "bench", "A", "", "", ORIGIN, (), "train")


@dataclass(frozen=True, slots=True)
class Measurement:
    """Cost of both methods for one number of turns."""

    num_turns: int
    one_pass_tokens: int
    per_turn_tokens: int
    one_pass_seconds: float
    per_turn_seconds: float
    speed_ratio: float
    """Per-turn seconds over one-pass seconds."""
    gradient_difference: float
    """||one pass - per turn|| / ||per turn||."""


@dataclass(frozen=True, slots=True)
class QwenMeasurement:
    """Rows of dialogues that a policy sampled with Qwen3's template and its history as sampled."""

    num_turns: int
    rows_per_dialogue: float
    template_rows_per_dialogue: float
    """With the history of the template."""
    row_tokens: int
    turn_tokens: int
    """Tokens of the same dialogues with one row per turn."""
    token_ratio: float
    engine_learner_difference: float
    """Largest difference of a sampled token's log probability, nats."""


def random_dialogue(num_turns: int, *, user_tokens: int, reply_tokens: int, seed: int) -> Trajectory:
    """Return a dialogue of random tokens whose prompts continue each other."""
    generator = np.random.default_rng(seed)
    history: tuple[int, ...] = ()
    turns: list[Turn] = []
    for index in range(num_turns):
        prompt = (*history, *generator.integers(VOCABULARY, size=user_tokens).tolist())
        reply = tuple(generator.integers(VOCABULARY, size=reply_tokens).tolist())
        generation = Generation(prompt, reply, (-7.0,) * reply_tokens, "", "stop", 0)
        turns.append(Turn(index, "", "", JUDGED, ORIGIN, generation))
        history = prompt + reply
    return Trajectory(SCENARIO, group=0, sample=seed, turns=tuple(turns), stop=Stop.LIMIT)


def random_policy() -> Qwen3ForCausalLM:
    """Return a random policy that is large enough for matrix products to dominate."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
    )
    return Qwen3ForCausalLM(config).float()


def qwen3_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of words, with Qwen3's control tokens and its template."""
    words = ["<unk>", "system", "user", "assistant"]
    words += [f"word{index}" for index in range(VOCABULARY - 9 - len(words))]
    word_level = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, "<unk>"))
    word_level.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=word_level, unk_token="<unk>", eos_token="<|im_end|>", bos_token="<|endoftext|>"
    )
    tokenizer.add_tokens(["<|im_start|>"], special_tokens=True)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = QWEN3_TEMPLATE
    return tokenizer


def speaking_policy(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """Return a random policy that samples no control tokens but the one that ends a reply."""
    policy = random_policy()
    head = torch.nn.Linear(policy.config.hidden_size, VOCABULARY)
    marks = [index for index in tokenizer.added_tokens_decoder if index != tokenizer.eos_token_id]
    with torch.no_grad():
        head.weight.copy_(policy.lm_head.weight)
        head.bias.zero_()
        head.bias[[*marks, *range(len(tokenizer), VOCABULARY)]] = -1e4
    policy.lm_head = head
    return policy


async def sampled_dialogue(player: EnginePolicy, num_turns: int, seed: int, *, tokens: int) -> Trajectory:
    """Play a dialogue with a user who says as many random words as a reply has tokens."""
    generator = np.random.default_rng(seed)
    messages: list[Message] = [{"role": "system", "content": "word0 word1"}]
    turns: list[Turn] = []
    for index in range(num_turns):
        words = " ".join(f"word{word}" for word in generator.integers(VOCABULARY // 2, size=tokens))
        messages.append({"role": "user", "content": words})
        sampling = Sampling(max_tokens=tokens, seed=1000 * seed + index)
        reply = await player.reply(messages, sampling, previous=turns[-1].generation if turns else None)
        assert reply is not None, "the context is long enough for all turns"
        messages.append({"role": "assistant", "content": reply.text})
        turns.append(Turn(index, "", reply.text, JUDGED, ORIGIN, reply.generation))
    return Trajectory(SCENARIO, group=0, sample=seed, turns=tuple(turns), stop=Stop.LIMIT)


def sampled_batch(
    policy: Qwen3ForCausalLM, num_turns: int, options: argparse.Namespace, history: History
) -> TokenBatch:
    """Sample dialogues with Qwen3's template, and pack them."""
    template = ChatTemplate(qwen3_tokenizer(), history=history)
    player = EnginePolicy(LocalEngine(policy, template), template, policy.config.max_position_embeddings)
    dialogues = [
        asyncio.run(sampled_dialogue(player, num_turns, seed, tokens=options.reply_tokens))
        for seed in range(options.dialogues)
    ]
    ones = np.ones((options.dialogues, num_turns))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TemplateWarning)  # Its rows are counted.
        return pack(0, dialogues, ones, ones > 0, pad_id=0, temperature=1.0)


def measure_qwen3(num_turns: int, options: argparse.Namespace) -> QwenMeasurement:
    """Sample dialogues of a policy, and compare its learner's log probabilities with the engine's."""
    engine = speaking_policy(qwen3_tokenizer())
    learner = copy.deepcopy(engine)
    return_logprobs(learner)
    batch = sampled_batch(engine, num_turns, options, "as_sampled")
    rendered = sampled_batch(engine, num_turns, options, "template")
    with torch.no_grad():
        mask = torch.as_tensor(batch.loss_mask)
        learned = learner(torch.as_tensor(batch.token_ids), mask, batch.temperature).numpy()
    row_tokens, turn_tokens = int(batch.lengths.sum()), int(split_turns(batch).lengths.sum())
    return QwenMeasurement(
        num_turns=num_turns,
        rows_per_dialogue=len(batch.lengths) / options.dialogues,
        template_rows_per_dialogue=len(rendered.lengths) / options.dialogues,
        row_tokens=row_tokens,
        turn_tokens=turn_tokens,
        token_ratio=turn_tokens / row_tokens,
        engine_learner_difference=float(np.abs(learned - batch.behaviour_logprobs)[batch.loss_mask].max()),
    )


def learn(policy: Qwen3ForCausalLM, batch: TokenBatch, token_budget: int) -> torch.Tensor:
    """Run forward and backward over a batch and return the gradient."""
    policy.zero_grad()
    for micro in micro_batches(batch, token_budget):
        token_ids = torch.as_tensor(micro.token_ids)
        mask = torch.as_tensor(micro.loss_mask)
        logprobs = policy(token_ids, mask, micro.temperature)
        terms = policy_loss(
            logprobs,
            logprobs.detach(),
            behaviour_logprobs=torch.as_tensor(micro.behaviour_logprobs),
            advantages=torch.as_tensor(micro.advantages),
            mask=mask,
            turn_ids=torch.as_tensor(micro.turn_ids),
            config=LossConfig(),
            loss_tokens=micro.loss_tokens,
            loss_turns=micro.loss_turns,
        )
        terms.loss.backward()
    return torch.cat([weight.grad.flatten() for weight in policy.parameters() if weight.grad is not None])


def measure(policy: Qwen3ForCausalLM, num_turns: int, options: argparse.Namespace) -> Measurement:
    """Time both forms of the same dialogues alternately, so that a busy machine slows both equally."""
    dialogues = [
        random_dialogue(
            num_turns, user_tokens=options.user_tokens, reply_tokens=options.reply_tokens, seed=seed
        )
        for seed in range(options.dialogues)
    ]
    advantages = np.random.default_rng(0).normal(size=(options.dialogues, num_turns))
    valid = np.ones_like(advantages, dtype=bool)
    one_pass = pack(0, dialogues, advantages, valid, pad_id=0, temperature=1.0)
    per_turn = split_turns(one_pass)
    seconds: tuple[list[float], list[float]] = ([], [])
    gradients = [learn(policy, batch, options.token_budget) for batch in (one_pass, per_turn)]
    for _ in range(options.repeats):
        for batch, times in zip((one_pass, per_turn), seconds, strict=True):
            start = time.perf_counter()
            learn(policy, batch, options.token_budget)
            times.append(time.perf_counter() - start)
    fast, slow = (statistics.median(times) for times in seconds)
    return Measurement(
        num_turns=num_turns,
        one_pass_tokens=int(one_pass.lengths.sum()),
        per_turn_tokens=int(per_turn.lengths.sum()),
        one_pass_seconds=fast,
        per_turn_seconds=slow,
        speed_ratio=slow / fast,
        gradient_difference=float((gradients[0] - gradients[1]).norm() / gradients[1].norm()),
    )


def table_of(title: str, measurements: Sequence[Measurement] | Sequence[QwenMeasurement]) -> Table:
    """Return a table with one row per number of turns."""
    rows = [asdict(measurement) for measurement in measurements]
    table = Table(*(name.replace("_", " ") for name in rows[0]), title=title)
    for row in rows:
        table.add_row(*(str(value) if isinstance(value, int) else f"{value:.3g}" for value in row.values()))
    return table


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, nargs="+", default=[4, 8, 15])
    parser.add_argument("--dialogues", type=int, default=2)
    parser.add_argument("--user-tokens", type=int, default=30)
    parser.add_argument("--reply-tokens", type=int, default=30)
    parser.add_argument(
        "--token-budget", type=int, default=2048, help="tokens of a micro-batch, padding included"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    policy = random_policy()
    return_logprobs(policy)
    measurements = [measure(policy, num_turns, options) for num_turns in options.turns]
    console = Console()
    title = "One pass over a dialogue against one row per turn (forward and backward)"
    console.print(table_of(title, measurements))
    sampled = [measure_qwen3(num_turns, options) for num_turns in options.turns]
    console.print(table_of("Dialogues with Qwen3's template, history as sampled", sampled))
    if options.json is not None:
        pairs = zip(measurements, sampled, strict=True)
        rows = [{**asdict(random), "qwen3": asdict(of_qwen3)} for random, of_qwen3 in pairs]
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
