"""The credit benchmark compares equal work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_bench_writes_ratios_of_equal_work(tmp_path: Path) -> None:
    written = tmp_path / "bench.json"
    outcome = subprocess.run(
        [sys.executable, ROOT / "experiments" / "bench_credit.py", "--repeats", "1",
         "--size", "8", "60", "3", "4", "--json", written],
        cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    (row,) = json.loads(written.read_text())["sizes"]
    assert row["size"] == {"dialogues": 8, "tokens": 60, "turns": 3, "group_size": 4}
    assert row["ratios"]["REINFORCE++ over tokens"] == 1
    assert row["difference"] < 1e-5
    assert "MICA" in outcome.stdout
