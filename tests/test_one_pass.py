"""One pass over all turns of a dialogue has the same gradient as one row per turn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from mica_ray.losses import LossConfig, policy_loss
from mica_ray.packing import micro_batches, pack, split_turns
from mica_ray.training.logprob_model import return_logprobs
from mica_ray.types import Generation, Judgement, Scenario, Stop, TokenBatch, Trajectory, Turn

VOCABULARY = 64
SCENARIO = Scenario(
    id="s1",
    domain="test",
    category="test",
    dominant_axis="A",
    persona="",
    opening="",
    initial_state=(0.0, 0.0, 0.0),
    stages=(),
    split="train",
)


def tiny_policy() -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
    )
    policy = Qwen3ForCausalLM(config).float()
    return_logprobs(policy)
    return policy


def random_dialogue(num_turns: int, generator: np.random.Generator) -> Trajectory:
    history: tuple[int, ...] = ()
    turns: list[Turn] = []
    for index in range(num_turns):
        user = tuple(generator.integers(VOCABULARY, size=int(generator.integers(2, 6))).tolist())
        reply = tuple(generator.integers(VOCABULARY, size=int(generator.integers(1, 7))).tolist())
        prompt = history + user
        generation = Generation(
            prompt_ids=prompt,
            token_ids=reply,
            logprobs=tuple((-generator.random(len(reply)) - 3.5).tolist()),
            text="",
            finish_reason="stop",
            policy_version=0,
        )
        judgement = Judgement(progress=(0, 0, 0), regress=(0, 0, 0), delta=(0.0, 0.0, 0.0))
        turns.append(Turn(index, "", "", judgement, (0.0, 0.0, 0.0), generation))
        history = prompt + reply
    return Trajectory(scenario=SCENARIO, group=0, sample=0, turns=tuple(turns), stop=Stop.LIMIT)


def gradient(policy: Qwen3ForCausalLM, batches: list[TokenBatch], config: LossConfig) -> torch.Tensor:
    policy.zero_grad()
    for batch in batches:
        token_ids = torch.as_tensor(batch.token_ids)
        mask = torch.as_tensor(batch.loss_mask)
        behaviour = torch.as_tensor(batch.behaviour_logprobs)
        policy_loss(
            policy(token_ids, mask, batch.temperature),
            behaviour,
            behaviour_logprobs=behaviour,
            advantages=torch.as_tensor(batch.advantages),
            mask=mask,
            turn_ids=torch.as_tensor(batch.turn_ids),
            config=config,
            loss_tokens=batch.loss_tokens,
            loss_turns=batch.loss_turns,
        ).loss.backward()
    return torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])


@pytest.mark.parametrize("aggregation", ["token_mean", "turn_mean"])
def test_one_pass_gradient_equals_the_per_turn_gradient(aggregation: str) -> None:
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    groups = [random_dialogue(num_turns, generator) for num_turns in (4, 2, 3)]
    valid = np.arange(4) < np.array([[4], [2], [3]])
    valid[0, 1] = False  # a failed judgement: context for the turns after it, never trained
    advantages = generator.normal(size=valid.shape)
    batch = pack(0, groups, advantages, valid, pad_id=0, temperature=0.9)
    assert len(batch.lengths) == 3
    config = LossConfig(aggregation=aggregation)  # pyright: ignore[reportArgumentType]
    policy = tiny_policy()
    one_pass = gradient(policy, [batch], config)
    per_turn = gradient(policy, [split_turns(batch)], config)
    pieces = gradient(policy, micro_batches(batch, 30, count=4), config)
    # 1e-5 relative: fp32 sums in another order.
    assert one_pass.norm() > 0
    assert (one_pass - per_turn).norm() <= 1e-5 * per_turn.norm()
    assert (one_pass - pieces).norm() <= 1e-5 * pieces.norm()
