"""The contract of every policy engine: exact log probabilities, seeds, versions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine import EngineError, PolicyEngine
from mica_ray.rollout.local_engine import LocalEngine
from mica_ray.rollout.weights import pack_weights, publish
from mica_ray.types import Sampling
from tests.small_policy import reference_logprobs, small_folder, small_model, small_tokenizer, token_id

if TYPE_CHECKING:
    from transformers import Qwen3ForCausalLM

PROMPTS = [list(range(20, 40)), list(range(30, 35)), [100, 50, 60] * 15]


@dataclass(frozen=True)
class Subject:
    """An engine under test and the reference model."""

    engine: PolicyEngine
    model: Qwen3ForCausalLM


def local(tied: bool) -> Subject:
    return Subject(
        LocalEngine(small_model(tied=tied), ChatTemplate(small_tokenizer())), small_model(tied=tied)
    )


@pytest.fixture(
    scope="module", params=["local", pytest.param("vllm", marks=[pytest.mark.ray, pytest.mark.slow])]
)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[True, False], ids=["tied", "untied"])
async def subject(
    kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Subject]:
    tied = bool(request.param)
    if kind == "local":
        yield local(tied)
        return
    from mica_ray.rollout.engine_config import EngineConfig
    from mica_ray.rollout.engine_pool import EnginePool
    from mica_ray.rollout.vllm_engine import vllm_blueprint

    request.getfixturevalue("ray_cluster")
    folder = small_folder(tmp_path_factory.mktemp("policy"), tied=tied)
    template = ChatTemplate.from_folder(folder)
    config = EngineConfig(max_model_len=256, kv_cache_gib=0.25)
    pool = await EnginePool.start(vllm_blueprint(folder, template.stop_ids, config))
    yield Subject(pool, small_model(tied=tied))
    await pool.close()


async def largest_difference(subject: Subject, *, temperature: float = 1.0) -> float:
    """Largest difference, in nats, between the engine's log probabilities and a plain forward pass."""
    replies = await asyncio.gather(
        *(
            subject.engine.generate(prompt, Sampling(max_tokens=12, seed=seed, temperature=temperature))
            for seed, prompt in enumerate(PROMPTS * 3)
        )
    )
    return max(
        abs(reported - true)
        for reply in replies
        for reported, true in zip(
            reply.logprobs,
            reference_logprobs(subject.model, reply.prompt_ids, reply.token_ids, temperature),
            strict=True,
        )
    )


@pytest.mark.asyncio(loop_scope="module")
async def test_logprobs_are_the_models_after_loading_and_after_two_pushes(subject: Subject) -> None:
    # fp32 kernels may differ by 1e-4 nats; a wrong or stale head is wrong by whole nats.
    assert await largest_difference(subject) < 1e-4
    for version, seed in ((0, 1), (1, 2)):
        other = small_model(tied=subject.model.config.tie_word_embeddings, seed=seed)
        await subject.engine.load_weights(publish(pack_weights(other.named_parameters()), version))
        subject.model.load_state_dict(other.state_dict())
        assert await largest_difference(subject) < 1e-4
        assert (
            await subject.engine.generate(PROMPTS[0], Sampling(seed=0, max_tokens=2))
        ).policy_version == version


@pytest.mark.asyncio(loop_scope="module")
async def test_logprobs_refer_to_the_tempered_distribution(subject: Subject) -> None:
    assert await largest_difference(subject, temperature=0.7) < 1e-4


@pytest.mark.asyncio(loop_scope="module")
async def test_nucleus_of_the_likeliest_token_is_certain(subject: Subject) -> None:
    reply = await subject.engine.generate(PROMPTS[0], Sampling(max_tokens=3, seed=0, top_p=1e-6))
    assert reply.logprobs == pytest.approx((0.0,) * len(reply.token_ids), abs=1e-5)


@pytest.mark.asyncio(loop_scope="module")
async def test_equal_seeds_give_equal_replies_in_any_company(subject: Subject) -> None:
    alone = await subject.engine.generate(PROMPTS[0], Sampling(max_tokens=12, seed=5))
    crowd = await asyncio.gather(
        *(
            subject.engine.generate(prompt, Sampling(max_tokens=12, seed=seed))
            for seed, prompt in ((5, PROMPTS[0]), (6, PROMPTS[0]), (7, PROMPTS[2]))
        )
    )
    assert crowd[0].token_ids == alone.token_ids
    assert crowd[1].token_ids != alone.token_ids


@pytest.mark.asyncio(loop_scope="module")
async def test_reply_ends_at_the_end_of_turn_or_at_the_limit(subject: Subject) -> None:
    replies = await asyncio.gather(
        *(
            subject.engine.generate(PROMPTS[1], Sampling(max_tokens=40, seed=seed, temperature=1.5))
            for seed in range(40)
        )
    )
    end = token_id("<|im_end|>")
    for reply in replies:
        assert (reply.token_ids[-1] == end) == (reply.finish_reason == "stop")
        assert end not in reply.token_ids[:-1]
        assert len(reply.token_ids) == 40 or reply.finish_reason == "stop"
        assert "<|im_end|>" not in reply.text
    assert {reply.finish_reason for reply in replies} == {"stop", "length"}


@pytest.mark.asyncio(loop_scope="module")
async def test_prompt_beyond_the_context_is_refused(subject: Subject) -> None:
    with pytest.raises(EngineError, match=r"prompt of 600 tokens does not fit"):
        await subject.engine.generate([30] * 600, Sampling())


@pytest.mark.asyncio(loop_scope="module")
async def test_version_is_loaded_once(subject: Subject) -> None:
    tied = subject.model.config.tie_word_embeddings
    first, second = small_model(tied=tied, seed=3), small_model(tied=tied, seed=4)
    await subject.engine.load_weights(publish(pack_weights(first.named_parameters()), 7))
    await subject.engine.load_weights(publish(pack_weights(second.named_parameters()), 7))
    subject.model.load_state_dict(first.state_dict())
    assert await largest_difference(subject) < 1e-4


@pytest.mark.asyncio(loop_scope="module")
async def test_each_reply_is_made_by_one_version(subject: Subject) -> None:
    # Weights arrive while replies are being sampled: each reply is exact under the version it names.
    tied = subject.model.config.tie_word_embeddings
    models = {20: small_model(tied=tied, seed=5), 21: small_model(tied=tied, seed=6)}
    await subject.engine.load_weights(publish(pack_weights(models[20].named_parameters()), 20))
    waiting = [
        asyncio.create_task(subject.engine.generate(PROMPTS[0], Sampling(max_tokens=40, seed=s)))
        for s in range(8)
    ]
    await asyncio.sleep(0.01)
    await subject.engine.load_weights(publish(pack_weights(models[21].named_parameters()), 21))
    later = await subject.engine.generate(PROMPTS[0], Sampling(max_tokens=40, seed=0))
    assert later.policy_version == 21
    for reply in (*await asyncio.gather(*waiting), later):
        true = reference_logprobs(models[reply.policy_version], reply.prompt_ids, reply.token_ids)
        assert reply.logprobs == pytest.approx(true, abs=1e-4)


@pytest.mark.asyncio(loop_scope="module")
async def test_weights_of_another_model_are_refused(subject: Subject) -> None:
    import torch

    with pytest.raises(EngineError, match="belong to another model"):
        await subject.engine.load_weights(publish(pack_weights([("model.norm.weight", torch.zeros(64))]), 99))


async def test_seeded_batches_repeat_to_the_bit() -> None:
    def replies() -> Callable[[], list[tuple[float, ...]]]:
        async def run() -> list[tuple[float, ...]]:
            engine = local(True).engine
            made = await asyncio.gather(
                *(engine.generate(p, Sampling(max_tokens=20, seed=s)) for s, p in enumerate(PROMPTS * 4))
            )
            return [reply.logprobs for reply in made]

        return lambda: asyncio.run(run())

    first, second = await asyncio.to_thread(replies()), await asyncio.to_thread(replies())
    assert first == second


async def test_stop_string_ends_the_reply_and_is_not_part_of_it() -> None:
    engine = local(True).engine
    free = await engine.generate(PROMPTS[0], Sampling(max_tokens=12, seed=0))
    stop = free.text[3:5]
    cut = await engine.generate(PROMPTS[0], Sampling(max_tokens=12, seed=0, stop=(stop,)))
    assert cut.text == free.text[: free.text.index(stop)]
    assert cut.finish_reason == "stop"


async def test_context_longer_than_the_models_is_refused() -> None:
    with pytest.raises(EngineError, match="context_length must be <= 512, the model's limit, got 4096"):
        LocalEngine(small_model(tied=True), ChatTemplate(small_tokenizer()), context_length=4096)


async def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=f"Policy {tmp_path} cannot be loaded as a causal language model"):
        LocalEngine.from_folder(tmp_path, ChatTemplate(small_tokenizer()))
