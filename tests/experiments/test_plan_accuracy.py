"""The comparison of plan and measurement reads real processes and names them as the plan does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from experiments.plan_accuracy import Peaks, accuracy_table, descendants, memory_of

HOLD = "import sys; held = b'x' * 2**26; print('ready', flush=True); sys.stdin.read()"


def test_memory_of_a_child_is_found_below_its_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None and child.stdin is not None
        child.stdout.readline()
        assert child.pid in descendants(os.getpid())
        found = memory_of(child.pid)
        child.stdin.close()
    assert found is not None
    title, private, shared = found
    # 64 MiB and an interpreter.
    assert "held" in title
    assert 2**26 < private < 2**26 + 40 * 2**20
    assert shared < 2**20
    assert memory_of(child.pid) is None


def test_peaks_follow_a_process_that_changes_its_title() -> None:
    peaks = Peaks(names={1: "driver"})
    peaks.add({1: ("mica train", 10.0, 1.0), 2: ("ray::RayTrainWorker", 5.0, 0.0), 3: ("raylet", 2.0, 0.0)})
    peaks.add({1: ("mica train", 8.0, 0.0), 2: ("ray::execute", 9.0, 4.0), 3: ("raylet", 2.0, 0.0)})
    # Shared memory counts as Ray's: 2 + 1, then 2 + 4.
    assert peaks.largest == {"driver": 10.0, "learner worker": 9.0, "Ray": 6.0}
    assert peaks.total == 8 + 9 + 2 + 4


def test_table_has_a_line_per_process() -> None:
    row = {
        "policy": "/models/small", "planned": {"driver": 2.0**20}, "measured": {"driver": 2.0**19},
        "ratio": {"driver": 0.5},
    }  # fmt: skip
    table = accuracy_table([row])
    assert [list(column.cells) for column in table.columns] == [["small"], ["driver"], ["1"], ["0"], ["0.50"]]
    with pytest.raises(KeyError):
        accuracy_table([{"policy": "p"}])
