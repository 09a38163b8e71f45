"""Work in a thread stops when nobody waits for it; a stopped `mica train` leaves no half-made policy."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mica_ray.launch.interruptible import Interrupted, in_thread

ROOT = Path(__file__).parents[2]


async def test_value_and_error_of_the_work_are_those_of_the_call() -> None:
    assert await in_thread(lambda: threading.current_thread() is threading.main_thread()) is False
    with pytest.raises(KeyError, match="model"):
        await in_thread(lambda: {}["model"])


async def test_cancelled_work_stops_and_has_cleaned_up_when_the_cancellation_returns() -> None:
    started, cleaned = threading.Event(), list[str]()

    def work() -> None:
        try:
            started.set()
            while True:  # No `except Exception` stops the interruption.
                try:
                    time.sleep(0.001)
                except Exception:
                    cleaned.append("swallowed")
        except Interrupted:
            time.sleep(0.05)
            cleaned.append("interrupted")
            raise

    task = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(started.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == ["interrupted"]


async def test_cancellation_after_the_end_does_no_harm() -> None:
    for _ in range(50):
        task = asyncio.create_task(in_thread(lambda: 7))
        await asyncio.sleep(0.001)
        task.cancel()
        with suppress(asyncio.CancelledError):
            assert await task == 7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sign", "code"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 128 + signal.SIGINT)]
)
def test_signal_while_the_policy_is_made_stops_the_program_and_leaves_no_policy(
    tmp_path: Path, sign: signal.Signals, code: int
) -> None:
    command = "import sys; from mica_ray.cli import main; main(sys.argv[1:])"
    cache = tmp_path / "cache" / "mica_ray"
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", command, "train"],
            env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache.parent)},
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        while not (cache.is_dir() and any(cache.iterdir())):
            assert process.poll() is None, (tmp_path / "output").read_text()[-2000:]
            time.sleep(0.05)
        time.sleep(1)  # Into the warm-up dialogues, which take 15 s on idle cores.
        begin = time.monotonic()
        process.send_signal(sign)
        assert process.wait(timeout=60) == code
        # 1 s on idle cores. The policy would take minutes.
        assert time.monotonic() - begin < 10
    finally:
        process.kill()
        process.wait()
    assert list(cache.iterdir()) == []
    assert "Traceback" not in (tmp_path / "output").read_text()
