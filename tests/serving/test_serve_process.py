"""`mica serve` as an operator runs it: started, called, stopped by a signal."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from mica_ray.ports import free_port
from mica_ray.serving.proxy import has_haproxy
from tests.small_policy import small_folder

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.timeout(600)]


def test_service_answers_through_its_proxy_and_finishes_what_has_begun(tmp_path: Path) -> None:
    folder = small_folder(tmp_path / "policy", tied=True)
    port = free_port()
    serve = ["serve", str(folder), "--port", str(port), "--sampler", "transformers"]
    limits = ["--set", "rollout.context_length=256", "--set", "engine.max_model_len=256"]
    command = [sys.executable, "-c", "from mica_ray.cli import main; main()", *serve, *limits]
    log = tmp_path / "serve.log"
    with log.open("w") as file:
        service = subprocess.Popen(command, cwd=tmp_path, stdout=file, stderr=file)
    try:
        while "answers after" not in log.read_text():
            assert service.poll() is None, log.read_text()
            time.sleep(1)
        names = [process.name() for process in psutil.Process(service.pid).children(recursive=True)]
        assert any(name.startswith("haproxy") for name in names) == has_haproxy()

        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
        stream = client.chat.completions.create(
            model="policy", messages=[{"role": "user", "content": "hello"}], stream=True, max_tokens=8, seed=1
        )
        assert [chunk.choices[0].finish_reason for chunk in stream][-1] in ("stop", "length")

        statuses: list[int] = []
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 128, "seed": 2}

        def ask() -> None:
            statuses.append(
                httpx.post(f"{client.base_url}chat/completions", json=body, timeout=120).status_code
            )

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.1)
        service.send_signal(signal.SIGTERM)
        asking.join()
        assert statuses == [200]
        assert service.wait(timeout=120) == 0, log.read_text()
    finally:
        service.kill()
