"""`serve deploy` of a file like cluster/serve.yaml, on a Ray cluster of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from mica_ray.ports import free_port
from mica_ray.serving.http.api_keys import KeyFile
from tests.small_policy import small_folder

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
PATH = "/v1/support/sessions"


@dataclass(frozen=True)
class Head:
    """A Ray head that listens only on this machine."""

    dashboard: str
    environment: dict[str, str]

    def deploy(self, file: Path) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("serve")), "deploy", str(file), "-a", self.dashboard]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)

    def status(self) -> dict[str, str]:
        """Return the status and message of the application."""
        token = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        answer = httpx.get(f"{self.dashboard}/api/serve/applications/", headers=token, timeout=60)
        return answer.json()["applications"]["mica"]


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    folder = tmp_path_factory.mktemp("ray")
    names = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
    ports = {name: free_port() for name in names}
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "t" * 64}
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=4",
        "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--object-store-memory=100000000",
        *(f"--{name}={port}" for name, port in ports.items()),
    ]  # fmt: skip
    with (folder / "head.log").open("w") as log:
        started = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    found = Head(f"http://127.0.0.1:{ports['dashboard-port']}", environment)
    try:
        while True:
            assert started.poll() is None, (folder / "head.log").read_text()
            try:
                httpx.get(f"{found.dashboard}/api/version", timeout=5)
                break
            except httpx.TransportError:
                time.sleep(1)
        yield found
    finally:
        started.send_signal(signal.SIGTERM)  # Ray stops all processes that it started.
        started.wait(timeout=120)


def test_serve_deploy_brings_the_service_up_with_its_keys_and_judge(head: Head, tmp_path: Path) -> None:
    folder = small_folder(tmp_path / "policy", tied=True)
    keys = KeyFile(tmp_path / "keys.json")
    config = yaml.safe_load((ROOT / "cluster" / "serve.yaml").read_text())
    config["http_options"] |= {"host": "127.0.0.1", "port": free_port()}
    arguments = config["applications"][0]["args"]
    engine = {"max_model_len": 256}
    arguments["models"][0] |= {"path": str(folder), "engine": engine, "sampler": "transformers"}
    arguments["settings"] |= {"keys_file": str(keys.path), "sessions": True, "default_reply_tokens": 8}
    arguments |= {
        "replicas": {"at_least": 1},
        "judge": f"vllm:{folder}",
        "roles": {"max_tokens": 64, "engine": {"max_model_len": 512, "dtype": "float32"}},
    }
    header = {"Authorization": f"Bearer {keys.add('ada')}"}
    file = tmp_path / "serve.yaml"
    file.write_text(yaml.safe_dump(config))

    deployed = head.deploy(file)
    assert deployed.returncode == 0, deployed.stderr
    while head.status()["status"] in ("NOT_STARTED", "DEPLOYING"):
        time.sleep(1)
    assert head.status()["status"] == "RUNNING", head.status()["message"]

    address = f"http://127.0.0.1:{config['http_options']['port']}"
    with httpx.Client(base_url=address, headers=header, timeout=120) as client:
        asked = {"messages": [{"role": "user", "content": "Hello."}], "seed": 1}
        assert httpx.post(f"{address}/v1/chat/completions", json=asked, timeout=120).status_code == 401
        answer = client.post("/v1/chat/completions", json=asked)
        assert (answer.status_code, answer.json()["model"]) == (200, "support")
        assert [card["id"] for card in client.get("/v1/models").json()["data"]] == ["support"]
        place = f"{PATH}/{client.post(PATH, json={}).json()['id']}"
        need = client.post(f"{place}/messages", json={"content": "Hello."}).json()["need"]
    # The judge's replica answered: random weights write no valid judgement, or the rubric is too long.
    assert need["state"] is None
    assert "replica failed" not in need["error"] and "did not answer within" not in need["error"]


def test_an_unknown_key_in_the_file_is_named(head: Head, tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "cluster" / "serve.yaml").read_text())
    config["http_options"] |= {"host": "127.0.0.1", "port": free_port()}
    config["applications"][0]["args"]["setings"] = {}
    file = tmp_path / "serve.yaml"
    file.write_text(yaml.safe_dump(config))
    head.deploy(file)
    while (status := head.status())["status"] == "DEPLOYING":
        time.sleep(1)
    assert status["status"] == "DEPLOY_FAILED"
    assert "args.setings is unknown. Valid keys are models" in status["message"]
