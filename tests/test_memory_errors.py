"""Errors of memory name the process, its use and the limit, behind every wrapper of Ray."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayTaskError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from mica_ray.memory_errors import cause_line, memory_line

# The shape of a message of Ray 2.60's memory monitor; other numbers.
MESSAGE = """1 worker(s) were killed due to the node running low on memory. \
Memory on the node (IP: 10.0.0.7, ID: a22248) was 22.50GB used / 23.54GB limit (0.955820)
OOM kill reason: Memory usage 22500000000B exceeded threshold of 22363000000B (95.0% of 23540000000B limit)
Considered workers: [
Selected to kill: (Actor(b0a0f3): job ID=01000000, lease ID=00cd, task name=RayTrainWorker.execute, \
required resources={CPU: 1}, pid=4711, actual memory used=12.40GB, worker ID=7284)
]
Top 10 memory users: PID\tMEM(GB)\tCOMMAND
4711\t12.40\tray::RayTrainWorker.execute
4712\t5.22\tray::VllmEngine.generate
99\t0.65\tmica train
100\t0.10\tray::Mailbox
Refer to the documentation on how to address the out of memory issue."""
LINE = (
    "Ray killed RayTrainWorker.execute (pid 4711) with 12.40GB, because the memory was full; 22.50GB of "
    "23.54GB used on node 10.0.0.7, of which Ray allows 95 %; largest: ray::RayTrainWorker.execute 12.40 GB, "
    "ray::VllmEngine.generate 5.22 GB, mica train 0.65 GB"
)


def test_process_use_and_limit_are_read_from_rays_report() -> None:
    assert memory_line(OutOfMemoryError(MESSAGE)) == LINE


@pytest.mark.parametrize(
    "error",
    [
        ControllerError(OutOfMemoryError(MESSAGE)),
        WorkerGroupError("[Rank 0 Error Snippet]:", {1: RuntimeError("gloo"), 0: OutOfMemoryError(MESSAGE)}),
        # Rank 0 waits for rank 1, which was killed.
        WorkerGroupError("[Rank 0]:", {0: RuntimeError("gloo closed"), 1: OutOfMemoryError(MESSAGE)}),
        ControllerError(RayTaskError("f", "traceback", OutOfMemoryError(MESSAGE))),
    ],
    ids=["controller", "worker group", "other rank", "task of the controller"],
)
def test_wrappers_of_ray_train_do_not_hide_it(error: Exception) -> None:
    # The first line of a ControllerError is "Training failed due to controller error:" and nothing else.
    assert cause_line(error) == LINE


def test_report_without_details_is_still_one_line() -> None:
    short = OutOfMemoryError("1 worker(s) were killed due to the node running low on memory.")
    assert memory_line(short) == "Ray killed a process, because the memory was full"


def test_other_errors_keep_their_type_and_first_line() -> None:
    assert memory_line(ValueError("no such file")) == ""
    assert cause_line(ControllerError(KeyError("rank"))) == "KeyError: 'rank'"
    # Without a message there is at least a type.
    assert cause_line(ControllerError(TimeoutError())) == "TimeoutError: TimeoutError"
    assert cause_line(ActorDiedError()).startswith("ActorDiedError: The actor died unexpectedly")


def test_allocations_that_torch_refuses_are_errors_of_memory() -> None:
    refused = "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: 8 bytes"
    failed = WorkerGroupError("", {0: RayTaskError("f", "traceback", RuntimeError(f"{refused}\nat 0x1"))})
    assert cause_line(failed) == refused


PROGRAM = """
import sys, time
import ray
from mica_ray.memory_errors import memory_line

ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)

@ray.remote(max_restarts=0)
class Holder:
    def hold(self):
        self.held = b"x" * 2**26
        time.sleep(60)

try:
    ray.get(Holder.remote().hold.remote(), timeout=100)
except Exception as error:
    print(memory_line(error))
"""


@pytest.mark.ray
@pytest.mark.long
def test_real_process_that_ray_kills_is_named() -> None:
    # A threshold that every machine is above: the monitor kills the first process it may kill.
    settings = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=240,
        env={**os.environ, **settings}, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert re.search(r"Ray killed Holder\.__init__ \(pid \d+\) with [\d.]+GB", done.stdout)
    assert re.search(r"used on node [\d.]+, of which Ray allows 1 %; largest: \S", done.stdout)
