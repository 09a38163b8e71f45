"""Penalties, limits and log probabilities of the engine in this process."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import pytest
import torch

from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine import EngineError, GeneratedChunk
from mica_ray.rollout.local.logits import limited, penalized, token_logprob
from mica_ray.rollout.local_engine import LocalEngine
from mica_ray.types import ReplyOptions, Sampling
from tests.small_policy import reference_logprobs, small_model, small_tokenizer

INF = float("inf")
PROMPT = (20, 21, 22, 23)


@dataclass
class Row:
    options: ReplyOptions
    prompt_ids: tuple[int, ...] = (0,)
    token_ids: list[int] = field(default_factory=lambda: [1, 1, 2])


def changed(**options: object) -> list[float]:
    logits = torch.tensor([[2.0, 2.0, -2.0, 1.0]])
    return penalized(logits, [Row(ReplyOptions(**options))])[0].tolist()  # type: ignore[arg-type]


def test_penalties_lower_tokens_of_the_reply_and_bias_is_added() -> None:
    # Token 1 occurred twice, token 2 once; token 0 only in the prompt.
    assert changed(presence_penalty=0.5) == [2.0, 1.5, -2.5, 1.0]
    assert changed(frequency_penalty=0.5) == [2.0, 1.0, -2.5, 1.0]
    # Positive logits are divided, negative multiplied; the prompt's token counts too.
    assert changed(repetition_penalty=2.0) == [1.0, 1.0, -4.0, 1.0]
    assert changed(logit_bias=((3, -1.0), (99, 5.0))) == [2.0, 2.0, -2.0, 0.0]
    assert changed() == [2.0, 2.0, -2.0, 1.0]


async def test_presence_penalty_of_the_sampling_is_applied_without_options() -> None:
    engine = LocalEngine(small_model(tied=True), ChatTemplate(small_tokenizer()), context_length=64)
    greedy = Sampling(temperature=0.0, max_tokens=8)
    plain = await engine.generate(PROMPT, greedy)
    options = ReplyOptions(presence_penalty=2.0)
    (chunk,) = [part async for part in engine.stream(PROMPT, greedy, chunk_seconds=None, options=options)]
    penal = await engine.generate(PROMPT, replace(greedy, presence_penalty=2.0))
    assert penal.text == chunk.text != plain.text
    await engine.close()


def kept(**options: object) -> list[bool]:
    # Probabilities 0.5, 0.25, 0.15, 0.1.
    logits = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log()
    return [value > -INF for value in limited(logits, [Row(ReplyOptions(**options))])[0].tolist()]  # type: ignore[arg-type]


def test_limits_keep_the_most_likely_tokens() -> None:
    assert kept(top_k=1) == [True, False, False, False]
    assert kept(top_k=3) == [True, True, True, False]
    assert kept(top_k=4) == kept(top_k=1000) == kept() == [True] * 4
    assert kept(min_p=0.49) == [True, True, False, False]  # At least 0.49 of 0.5.
    assert kept(min_p=0.51) == [True, False, False, False]
    assert kept(min_p=1.0) == [True, False, False, False]


def test_the_most_likely_tokens_are_returned_in_order() -> None:
    found = token_logprob(torch.tensor([0.1, 0.6, 0.3]).log(), 0, 2)
    assert found.token_id == 0 and found.logprob == pytest.approx(math.log(0.1))
    assert [token for token, _ in found.top] == [1, 2]
    assert token_logprob(torch.zeros(3), 1, 0).top == ()


async def chunk(
    engine: LocalEngine, options: ReplyOptions | None = None, **sampling: float
) -> GeneratedChunk:
    how = Sampling(max_tokens=6, seed=1, **sampling)  # type: ignore[arg-type]
    (whole,) = [piece async for piece in engine.stream(PROMPT, how, chunk_seconds=None, options=options)]
    return whole


async def test_options_change_a_reply_and_no_others() -> None:
    model = small_model(tied=True)
    engine = LocalEngine(model, ChatTemplate(small_tokenizer()))
    plain = await engine.generate(PROMPT, Sampling(max_tokens=6, seed=1))
    assert (await chunk(engine)).text == plain.text
    asked = await chunk(engine, ReplyOptions(top_logprobs=2))
    assert asked.text == plain.text
    assert [token.token_id for token in asked.logprobs] == list(plain.token_ids)
    expected = reference_logprobs(model, PROMPT, plain.token_ids)
    assert [token.logprob for token in asked.logprobs] == pytest.approx(expected, abs=1e-3)
    greedy = await chunk(engine, ReplyOptions(top_logprobs=1), temperature=0.0)
    assert all(token.top[0][0] == token.token_id for token in greedy.logprobs)
    only = await chunk(engine, ReplyOptions(top_k=1, top_logprobs=0))
    assert [token.token_id for token in only.logprobs] == [token.token_id for token in greedy.logprobs]
    word = small_tokenizer().encode("job", add_special_tokens=False)[0]
    biased = await chunk(engine, ReplyOptions(logit_bias=((word, 100.0),), top_logprobs=0))
    assert {token.token_id for token in biased.logprobs} == {word}


async def test_the_local_engine_refuses_a_schema() -> None:
    engine = LocalEngine(small_model(tied=True), ChatTemplate(small_tokenizer()))
    with pytest.raises(EngineError, match="needs vLLM"):
        await chunk(engine, ReplyOptions(schema={"type": "object"}))
