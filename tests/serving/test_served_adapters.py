"""One engine serves a model and its adapters: every reply comes from the weights that the client named."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch

from mica_ray.config import ConfigError
from mica_ray.launch.shared_base import shared_bases
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.serving.http.backend import ChatRequest
from mica_ray.serving.model_prompt import RenderedRequest
from mica_ray.serving.model_replica import ModelSpec
from mica_ray.serving.service_spec import ServiceSpec
from mica_ray.types import ReplyOptions, Sampling
from tests.small_adapters import summed, written
from tests.small_policy import small_folder, small_model

ENGINE = EngineConfig(max_model_len=256, kv_cache_gib=0.25)
PROMPT = (20, 30, 40, 50, 60)


def likeliest(seed: int | None) -> float:
    """Return the log probability of the most likely next token, of the model or with an adapter."""
    model = small_model(tied=True)
    if seed is not None:
        model.load_state_dict(summed(seed))
    with torch.no_grad():
        logits = model(torch.tensor([PROMPT])).logits[0, -1].float()
    return float(torch.log_softmax(logits, dim=-1).max())


@pytest.mark.ray
@pytest.mark.slow
async def test_replies_of_one_batch_come_from_the_model_and_its_adapters(
    ray_cluster: None, tmp_path: Path
) -> None:
    import ray

    from mica_ray.serving.ray_app import ReplicaDeployment

    base = small_folder(tmp_path / "base", tied=True)
    models = [ModelSpec("base", str(base), ENGINE)]
    models += [
        ModelSpec(f"adapter {seed}", str(base), ENGINE, adapter=written(tmp_path / str(seed), seed, base))
        for seed in (1, 2)
    ]
    (engine,) = ServiceSpec(tuple(models)).engines
    options: dict[str, Any] = {"num_cpus": 1, "runtime_env": {"env_vars": dict(engine.base.environment)}}
    actor: Any = ray.remote(ReplicaDeployment).options(**options).remote(engine.base, engine.adapters)  # pyright: ignore
    sampling = Sampling(temperature=0.0, max_tokens=1)
    requests = [
        RenderedRequest(PROMPT, sampling, options=ReplyOptions(top_logprobs=1, adapter=name))
        for name in ("", "adapter 1", "adapter 2")
    ]
    try:
        async with asyncio.timeout(240):
            replies = await asyncio.gather(*(actor.reply.remote(request) for request in requests))
    finally:
        ray.kill(actor)
    found = [reply.logprobs[0].logprob for reply in replies]
    assert found == pytest.approx([likeliest(None), likeliest(1), likeliest(2)], abs=1e-4)
    assert len({round(value, 3) for value in found}) == 3


def test_request_for_an_adapted_model_names_its_adapter(tmp_path: Path) -> None:
    base = small_folder(tmp_path / "base", tied=True)
    plain = ModelSpec("base", str(base), ENGINE)
    adapted = ModelSpec("mine", str(base), ENGINE, adapter=written(tmp_path / "1", 1, base))
    found = [
        model.prompt().render(ChatRequest(model.id, ({"role": "user", "content": "Hi."},), Sampling()))
        for model in (plain, adapted)
    ]
    assert [request.options.adapter for request in found] == ["", "mine"]
    assert found[0].prompt_ids == found[1].prompt_ids


def test_adapters_are_shared_only_with_others_of_their_base(tmp_path: Path) -> None:
    one, two = (small_folder(tmp_path / name, tied=True) for name in ("one", "two"))
    first, second = (written(tmp_path / f"adapter-{seed}", seed, one) for seed in (1, 2))
    alone = written(tmp_path / "alone", 3, two)
    assert shared_bases([first]) == {}
    assert shared_bases([first, alone]) == {}
    assert shared_bases([first, second, alone]) == {first: one, second: one}
    assert shared_bases([first, str(one)]) == {first: one}
    assert shared_bases([str(one), str(two)]) == {}


def test_adapter_of_other_weights_is_refused(tmp_path: Path) -> None:
    base = small_folder(tmp_path / "base", tied=True)
    adapters = [written(tmp_path / str(seed), seed, base) for seed in (1, 2)]
    small_model(tied=True, seed=5).save_pretrained(base)
    with pytest.raises(ConfigError, match="has other weights than the base model"):
        shared_bases(adapters)
