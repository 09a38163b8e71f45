"""A model in the web application's process, with vLLM: streaming, a killed engine."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import httpx
import psutil
import pytest

from mica_ray.ports import free_port
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.model_replica import ModelSpec
from mica_ray.serving.service_spec import ServiceSpec
from tests.serving.official_client import check_with_official_client
from tests.small_policy import small_folder

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def address(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from mica_ray.serving.ray_app import end_service, serve_application

    folder = small_folder(tmp_path_factory.mktemp("policy"), tied=True)
    model = ModelSpec("support", str(folder), EngineConfig(max_model_len=256))
    spec = ServiceSpec((model,), ServeSettings(default_reply_tokens=8))
    assert spec.local_engine is not None
    port = free_port()
    serve_application(spec, host="127.0.0.1", port=port)
    yield f"http://127.0.0.1:{port}"
    end_service()


async def test_a_local_model_streams_and_restarts_after_its_engine_is_killed(
    address: str,
) -> None:
    await check_with_official_client(address)

    def engines() -> list[psutil.Process]:
        processes = psutil.Process().children(recursive=True)
        return [p for p in processes if "EngineCore" in " ".join(p.cmdline())]

    (engine,) = engines()
    os.kill(engine.pid, signal.SIGKILL)
    body = {"messages": [{"role": "user", "content": "hello"}]}
    statuses = list[int]()
    async with httpx.AsyncClient(base_url=address, timeout=300) as client, asyncio.timeout(300):
        while not statuses or statuses[-1] != 200:
            try:
                statuses.append((await client.post("/v1/chat/completions", json=body)).status_code)
            except httpx.TransportError:  # The whole process restarts, which closes its connections.
                statuses.append(0)
            await asyncio.sleep(0.5)
    assert statuses[0] == 503  # Sent by the application: the model failed.
    assert set(statuses) <= {0, 200, 503}
    (newer,) = engines()
    assert newer.pid != engine.pid
