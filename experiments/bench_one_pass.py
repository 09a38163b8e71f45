"""How much faster is one pass over a whole dialogue than one row per turn, and is the gradient the same?

Command:   cluster/with-env python experiments/bench_one_pass.py [--json FILE]
Time:      about one minute on two cores
Expected:  a ratio that grows with the number of turns, and gradients that differ by less than 1e-5

A random tiny Qwen3 policy in fp32; medians of interleaved runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import Qwen3Config, Qwen3ForCausalLM

from mica_ray.losses import LossConfig, policy_loss
from mica_ray.packing import micro_batches, pack, split_turns
from mica_ray.training.logprob_model import return_logprobs
from mica_ray.types import Generation, Judgement, Scenario, State, Stop, TokenBatch, Trajectory, Turn

VOCABULARY = 1024
ORIGIN: State = (0.0, 0.0, 0.0)
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


def random_dialogue(num_turns: int, *, user_tokens: int, reply_tokens: int, seed: int) -> Trajectory:
    """Return a dialogue of random tokens whose prompts continue each other."""
    generator = np.random.default_rng(seed)
    history: tuple[int, ...] = ()
    turns: list[Turn] = []
    for index in range(num_turns):
        prompt = (*history, *generator.integers(VOCABULARY, size=user_tokens).tolist())
        reply = tuple(generator.integers(VOCABULARY, size=reply_tokens).tolist())
        generation = Generation(prompt, reply, (-7.0,) * reply_tokens, "", "stop", 0)
        turns.append(Turn(index, "", "", Judgement((0, 0, 0), (0, 0, 0), ORIGIN), ORIGIN, generation))
        history = prompt + reply
    return Trajectory(SCENARIO, group=0, sample=seed, turns=tuple(turns), stop=Stop.LIMIT)


def tiny_policy() -> Qwen3ForCausalLM:
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
    policy = Qwen3ForCausalLM(config).float()
    return_logprobs(policy)
    return policy


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


def table_of(measurements: list[Measurement]) -> Table:
    """Return a table with one row per number of turns."""
    table = Table(title="One pass over a dialogue against one row per turn (forward and backward)")
    headings = (
        "turns",
        "tokens, one pass",
        "tokens, per turn",
        "seconds, one pass",
        "seconds, per turn",
        "ratio",
        "gradient difference",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for m in measurements:
        table.add_row(
            str(m.num_turns),
            str(m.one_pass_tokens),
            str(m.per_turn_tokens),
            f"{m.one_pass_seconds:.3f}",
            f"{m.per_turn_seconds:.3f}",
            f"{m.speed_ratio:.2f}",
            f"{m.gradient_difference:.1e}",
        )
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
    policy = tiny_policy()
    measurements = [measure(policy, num_turns, options) for num_turns in options.turns]
    Console().print(table_of(measurements))
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(m) for m in measurements], indent=2) + "\n")


if __name__ == "__main__":
    main()
