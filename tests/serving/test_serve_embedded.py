"""OpenAI's client against `mica serve embedded`: Ray Serve, vLLM and the embedded policy."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from mica_ray.ports import free_port
from tests.serving.official_client import (
    check_json_replies,
    check_models,
    check_options,
    check_refused_tools,
    check_responses,
    check_with_official_client,
    client_of,
)

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.timeout(1800)]


async def test_official_client_has_every_feature_of_the_embedded_service(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "serve.log"
    command = [sys.executable, "-c", "from mica_ray.cli import main; main()", "serve", "embedded"]
    with log.open("w") as file:
        service = subprocess.Popen([*command, "--port", str(port)], cwd=tmp_path, stdout=file, stderr=file)
    try:
        while "answers after" not in log.read_text():
            assert service.poll() is None, log.read_text()
            time.sleep(1)
        address = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{address}/ready", timeout=60).status_code == 200
        [served] = (await client_of(address).models.list()).data
        for check in (
            check_with_official_client,
            check_models,
            check_options,
            check_json_replies,
            check_refused_tools,
            check_responses,
        ):
            await check(address, model=served.id)
        reply = await client_of(address).chat.completions.with_raw_response.create(
            model=served.id, messages=[{"role": "user", "content": "hello"}], max_tokens=4
        )
        assert reply.headers["x-request-id"] and reply.http_response.status_code == 200
    finally:
        service.terminate()
        service.wait(timeout=120)
