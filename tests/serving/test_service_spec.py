"""Which models share an engine, and which engine the web application's process has to itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mica_ray.lora.adapter import Adapter
from mica_ray.lora.folder import write_adapter
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.serving.model_replica import ModelSpec
from mica_ray.serving.service_spec import Replicas, ServiceSpec, SharedEngine

MODEL = ModelSpec("support", "/models/support", EngineConfig(dtype="bfloat16"))


def test_a_single_replica_is_local_with_its_engine_in_a_process_of_its_own() -> None:
    spec = ServiceSpec((MODEL,))
    local = replace(MODEL, engine=EngineConfig(dtype="bfloat16", backend="async"))
    assert spec.local_engine == SharedEngine(local, (MODEL,))


def adapter(folder: Path, rank: int) -> str:
    tensors = {"a.lora_A.weight": torch.zeros(rank, 2), "a.lora_B.weight": torch.zeros(2, rank)}
    write_adapter(folder, Adapter(tensors, 1.0), base="/models/support")
    return str(folder)


def test_adapters_share_the_engine_of_their_base(tmp_path: Path) -> None:
    small, large = (
        replace(MODEL, id=f"rank {rank}", adapter=adapter(tmp_path / str(rank), rank)) for rank in (4, 9)
    )
    other = replace(MODEL, id="other", path="/models/other")
    spec = ServiceSpec((small, other, MODEL, large))
    first, second = spec.engines
    assert first.models == (small, MODEL, large)
    assert first.adapters == {"rank 4": small.adapter, "rank 9": large.adapter}
    # Room for the largest rank, and for both adapters and the model itself in a batch.
    assert first.base.engine == replace(MODEL.engine, lora_rank=9, lora_slots=3)
    assert first.base.adapter == ""
    assert second == SharedEngine(other, (other,))
    assert spec.cpus == 2 * 2
    assert spec.local_engine is None
    local = ServiceSpec((small, large)).local_engine
    assert local is not None and set(local.adapters) == {"rank 4", "rank 9"}
    assert local.base.engine.lora_slots == 2


def test_equal_models_without_adapters_have_engines_of_their_own() -> None:
    assert len(ServiceSpec((MODEL, replace(MODEL, id="again"))).engines) == 2


def test_only_vllm_serves_adapters_without_merging_them(tmp_path: Path) -> None:
    adapted = replace(MODEL, adapter=adapter(tmp_path, 4))
    with pytest.raises(ValueError, match="Only the sampler vllm serves adapters"):
        ServiceSpec((replace(adapted, sampler="transformers"),))
    with pytest.raises(ValueError, match="Only the sampler vllm serves adapters"):
        ServiceSpec((adapted,), is_ray_llm=True)


def test_other_services_have_no_local_engine() -> None:
    other = replace(MODEL, id="base")
    in_process = replace(MODEL, engine=EngineConfig(backend="in_process"))
    for spec in (
        ServiceSpec((MODEL, other)),
        ServiceSpec((MODEL,), replicas=Replicas(2, 2)),
        ServiceSpec((MODEL,), replicas=Replicas(1, 2)),
        ServiceSpec((MODEL,), is_ray_llm=True),
        ServiceSpec((replace(MODEL, sampler="transformers"),)),
        ServiceSpec((in_process,)),
    ):
        assert spec.local_engine is None
