"""The server of `running_server` starts and stops with its block."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from mica_ray.ports import free_port
from mica_ray.serving.local_server import running_server, server_command

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


async def test_server_is_up_in_the_block_and_gone_after_it(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-c", SERVER, str(port)]
    async with running_server(command, port, tmp_path / "log", 60) as server:
        assert server.poll() is None
    assert server.poll() is not None


async def test_server_that_ends_or_never_answers_is_named_with_its_log(tmp_path: Path) -> None:
    port = free_port()
    broken = [sys.executable, "-c", "print('no such model'); raise SystemExit(3)"]
    with pytest.raises(RuntimeError, match=r"exited with code 3\. Check its log"):
        async with running_server(broken, port, tmp_path / "log", 60):
            pass
    assert "no such model" in (tmp_path / "log").read_text()
    started = time.monotonic()
    silent = [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(RuntimeError, match="not ready within 1 s"):
        async with running_server(silent, port, tmp_path / "log", 1):
            pass
    assert time.monotonic() - started < 60  # Far above 1 s for a loaded machine; it sleeps for 600.


def test_server_command_serves_the_folder_on_the_port_alone() -> None:
    command = server_command("/models/small", 4321, context=8192)
    assert command[command.index("--model") + 1] == "/models/small"
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "4321"
