"""Only the single replica of a single model runs in the web application's process."""

from __future__ import annotations

from dataclasses import replace

from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.serving.model_replica import ModelSpec
from mica_ray.serving.service_spec import Replicas, ServiceSpec

MODEL = ModelSpec("support", "/models/support", EngineConfig(dtype="bfloat16"))


def test_a_single_replica_is_local_with_its_engine_in_a_process_of_its_own() -> None:
    spec = ServiceSpec((MODEL,))
    assert spec.local_model == replace(MODEL, engine=EngineConfig(dtype="bfloat16", backend="async"))


def test_other_services_have_no_local_model() -> None:
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
        assert spec.local_model is None
