"""A real MLflow server on sqlite that can be stopped and started again under one address."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from mica_ray.ports import free_port

STARTS_WITHIN_SECONDS = 240.0
"""Start-up takes 10 s on a free core, most of it imports."""


class MlflowServer:
    """A server process that keeps its port over restarts; its process group is killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it responds."""
        folder = self._folder
        with (folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"),
                    *("--port", str(self.port), "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
                    *("--artifacts-destination", str(folder / "artifacts")),
                ],
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + STARTS_WITHIN_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
                return
            except OSError:
                assert time.monotonic() < deadline, (folder / "server.log").read_text()[-2000:]
                time.sleep(0.1)

    def stop(self) -> None:
        """Kill the server with all its workers."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=30)
            self._process = None
