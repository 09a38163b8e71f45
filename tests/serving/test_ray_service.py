"""The service on a real Ray Serve: streaming, a killed replica, a redeployment."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace

import httpx
import psutil
import pytest

from mica_ray.ports import free_port
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.model_replica import ModelSpec
from mica_ray.serving.service_spec import Replicas, ServiceSpec
from tests.serving.official_client import check_with_official_client
from tests.small_policy import small_folder

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.timeout(600)]

ASK = "/v1/chat/completions"


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ServiceSpec:
    folder = small_folder(tmp_path_factory.mktemp("policy"), tied=True)
    model = ModelSpec("support", str(folder), EngineConfig(max_model_len=256), sampler="transformers")
    return ServiceSpec(
        (model,), ServeSettings(default_reply_tokens=8), Replicas(2, 2, target_ongoing=4, max_ongoing=8)
    )


@pytest.fixture(scope="module")
def address(ray_cluster: None, spec: ServiceSpec) -> Iterator[str]:
    from mica_ray.serving.ray_app import end_service, serve_application

    port = free_port()
    serve_application(spec, host="127.0.0.1", port=port)
    yield f"http://127.0.0.1:{port}"
    end_service()


async def asking(address: str, action: Callable[[], None]) -> list[int]:
    """Send requests without a pause during an action and shortly after; return their statuses."""
    statuses: list[int] = []
    is_done = asyncio.Event()

    async def client(seed: int) -> None:
        async with httpx.AsyncClient(base_url=address, timeout=300) as http:
            rest = 5
            while rest:
                body = {"messages": [{"role": "user", "content": "hello"}], "seed": seed}
                statuses.append((await http.post(ASK, json=body)).status_code)
                rest -= is_done.is_set()

    clients = [asyncio.create_task(client(seed)) for seed in range(4)]
    while len(statuses) < 8:
        await asyncio.sleep(0.05)
    await asyncio.to_thread(action)
    is_done.set()
    await asyncio.gather(*clients)
    return statuses


async def test_the_official_client_streams_from_a_replica(address: str) -> None:
    await check_with_official_client(address)


async def test_a_killed_replica_costs_no_other_error_than_a_retryable_one(address: str) -> None:
    def kill() -> None:
        processes = psutil.Process().children(recursive=True)
        replicas = [p for p in processes if "ServeReplica:mica:model-0" in " ".join(p.cmdline())]
        os.kill(replicas[0].pid, signal.SIGKILL)

    statuses = await asking(address, kill)
    assert set(statuses) <= {200, 503}
    assert statuses[-4:] == [200] * 4


async def test_a_redeployment_fails_no_request(address: str, spec: ServiceSpec) -> None:
    from mica_ray.serving.ray_app import serve_application

    random.seed()  # Ray Serve draws version numbers from it: with the same seed both would be equal.
    newer = replace(spec, models=(replace(spec.models[0], created=7),))
    host, _, port = address.removeprefix("http://").partition(":")
    statuses = await asking(address, lambda: serve_application(newer, host=host, port=int(port)))
    assert set(statuses) == {200}
    async with httpx.AsyncClient(base_url=address, timeout=300) as client, asyncio.timeout(120):
        # Until it has drained, the old version answers too.
        while (await client.get("/v1/models")).json()["data"][0]["created"] != 7:
            await asyncio.sleep(0.5)
