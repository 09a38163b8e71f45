"""`ray job submit` to a head that requires a token: it succeeds, fails with the reason, or is refused."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
HEAD_SECONDS = 120
"""Start of a head, seconds; it takes 10 to 20 s on two free cores."""
JOB_SECONDS = 180
"""Duration of a short job, with Python's start and imports on loaded cores, seconds."""

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True, slots=True)
class Head:
    """A separate Ray head and its token."""

    address: str
    environment: dict[str, str]

    def submit(self, *command: str, token: str | None) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in self.environment.items() if name != "RAY_AUTH_TOKEN"}
        if token is not None:
            environment["RAY_AUTH_TOKEN"] = token
        return subprocess.run(
            [BIN / "ray", "job", "submit", "--address", self.address, "--", *command],
            env=environment, cwd=ROOT, text=True, timeout=JOB_SECONDS, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    @property
    def token(self) -> str:
        return self.environment["RAY_AUTH_TOKEN"]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def is_answering(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}/api/jobs/", timeout=5)
    except urllib.error.HTTPError:
        return True  # It refuses us without a token, which is an answer.
    except OSError:
        return False
    return True


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + HEAD_SECONDS
    while not is_answering(address):
        assert process.poll() is None, f"the head ended: {log.read_text()[-2000:]}"
        assert time.monotonic() < deadline, f"no head after {HEAD_SECONDS} s: {log.read_text()[-2000:]}"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    # Short, because Ray's socket paths below it must stay under 108 characters.
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    port, dashboard_port, client_port, agent_port, metrics_port = free_ports(5)
    options = [
        f"--port={port}",
        f"--dashboard-port={dashboard_port}",
        f"--ray-client-server-port={client_port}",
        f"--dashboard-agent-listen-port={agent_port}",
        f"--metrics-export-port={metrics_port}",
        f"--temp-dir={folder}",
        f"--object-store-memory={200 * 1024**2}",
    ]
    log = tmp_path_factory.mktemp("head") / "log"
    # What another Ray of this session may have left in the environment would lead astray.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{BIN}:{environment['PATH']}",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                BIN / "ray",
                "start",
                "--head",
                "--block",
                "--num-cpus=2",
                "--node-ip-address=127.0.0.1",
                *options,
            ],
            env=environment,
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{dashboard_port}"
    try:
        wait_for(address, process, log)
        yield Head(address, environment)
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)


def running() -> dict[tuple[int, str], int]:
    """Map each process to its parent's id. The key has the start time too, since ids are reused."""
    parents: dict[tuple[int, str], int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # It ended while we looked.
        parents[int(status.parent.name), fields[19]] = int(fields[1])
    return parents


def descendants(pid: int) -> list[tuple[int, str]]:
    parents, found, ids = running(), [], {pid}
    while new := [process for process, parent in parents.items() if parent in ids and process not in found]:
        found += new
        ids |= {process_id for process_id, _ in new}
    return found


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop the head and its descendants one by one; other Rays on the machine keep running."""
    started = descendants(process.pid)
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=10)
    for pid, _ in running().keys() & set(started):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_job_with_the_token_succeeds(head: Head) -> None:
    outcome = head.submit("cluster/with-env", "mica", "train", "--dry-run", token=head.token)
    assert outcome.returncode == 0, outcome.stdout
    assert "succeeded" in outcome.stdout


def test_bad_recipe_fails_with_its_reason_in_the_job_log(head: Head) -> None:
    outcome = head.submit(
        "cluster/with-env", "mica", "train", "--dry-run", "--set", "bogus=1", token=head.token
    )
    assert outcome.returncode == 1
    assert "failed with exit code 2" in outcome.stdout
    # The log repeats the command, which names the key as well.
    assert [line for line in outcome.stdout.splitlines() if "bogus" in line and "with-env" not in line]
    assert "Traceback" not in outcome.stdout


@pytest.mark.parametrize("token", [None, "0" * 64])
def test_submission_without_the_right_token_is_refused(head: Head, token: str | None) -> None:
    outcome = head.submit("cluster/with-env", "true", token=token)
    assert outcome.returncode != 0
    assert "uthentication" in outcome.stdout
