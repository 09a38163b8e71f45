"""Dialogues of a Qwen3 policy, sampled by the local engine: one row each, as the learner sees them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from mica_ray.packing import TemplateWarning, pack
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.collect import RolloutConfig, collect
from mica_ray.rollout.engine_policy import EnginePolicy
from mica_ray.rollout.local_engine import LocalEngine
from mica_ray.rollout.prompting.appending import History
from mica_ray.training.logprob_model import return_logprobs
from mica_ray.types import Sampling, TokenBatch, Trajectory
from tests.rollout.counting_dialogue import CountingEnvironment, scenario
from tests.rollout.template_families import family_tokenizer

NAME = "qwen3_off"
CONTEXT = 1536


def policy_model() -> Qwen3ForCausalLM:
    """A random Qwen3 that never samples a control token other than the end of its turn."""
    torch.manual_seed(0)
    tokenizer = family_tokenizer(NAME)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        initializer_range=0.15,
    )
    model = Qwen3ForCausalLM(config).float().eval()
    head = torch.nn.Linear(64, len(tokenizer), bias=True)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    marks = [index for index in tokenizer.added_tokens_decoder if index != end]
    with torch.no_grad():
        head.weight.copy_(model.lm_head.weight)
        head.bias.zero_()
        head.bias[marks] = -1e4
    model.lm_head = head
    return model


async def play(
    model: Qwen3ForCausalLM, num_turns: int, history: History
) -> tuple[list[Trajectory], TokenBatch]:
    """Play two dialogues, and pack all their turns."""
    template = ChatTemplate(family_tokenizer(NAME), history=history)
    config = RolloutConfig(2, Sampling(max_tokens=8, temperature=0.9), CONTEXT, history=history)
    dialogues = await collect(
        [scenario("a")],
        lambda who, seed: CountingEnvironment(who, seed, turns=num_turns),
        EnginePolicy(LocalEngine(model, template), template, CONTEXT),
        config,
        step=0,
        seed=5,
        policy_prompt="Be kind.",
    )
    assert [len(dialogue.turns) for dialogue in dialogues] == [num_turns] * 2
    ones = np.ones((2, num_turns))
    return dialogues, pack(0, dialogues, ones, ones > 0, pad_id=0, temperature=0.9)


@pytest.mark.parametrize("num_turns", [4, 8, 15])
@pytest.mark.filterwarnings("error::mica_ray.packing.TemplateWarning")
async def test_dialogue_is_one_row_with_the_log_probabilities_of_the_engine(num_turns: int) -> None:
    model = policy_model()
    dialogues, batch = await play(model, num_turns, "as_sampled")
    assert len(batch.lengths) == 2
    assert batch.loss_turns == 2 * num_turns
    for row, dialogue in enumerate(dialogues):
        last = dialogue.turns[-1].generation
        assert last is not None
        assert tuple(batch.token_ids[row, : batch.lengths[row]]) == last.prompt_ids + last.token_ids
        # System, and user and assistant in every turn.
        text = str(family_tokenizer(NAME).decode(list(last.prompt_ids)))
        assert text.count("<|im_start|>") == 1 + 2 * num_turns
        # Every reply follows the empty thought with which its prompt opened it.
        assert text.count("</think>") == num_turns
    return_logprobs(model)
    with torch.no_grad():
        mask = torch.as_tensor(batch.loss_mask)
        learned = model(torch.as_tensor(batch.token_ids), mask, batch.temperature).numpy()
    # 1e-4 nats: fp32 sums with and without a cache; a token in another place differs by about 1 nat.
    assert np.abs(learned - batch.behaviour_logprobs)[batch.loss_mask].max() <= 1e-4
    assert learned[batch.loss_mask].std() > 0.5


async def test_template_that_rewrites_history_costs_a_row_for_every_turn() -> None:
    with pytest.warns(TemplateWarning, match="2 of 2 dialogues .* become 16 rows"):
        _, per_turn = await play(policy_model(), 8, "template")
    _, whole = await play(policy_model(), 8, "as_sampled")
    assert (len(per_turn.lengths), len(whole.lengths)) == (16, 2)
    # Rows of 1 to 8 turns have 36 turns of text, the whole dialogue has 8.
    assert per_turn.lengths.sum() > 3 * whole.lengths.sum()
