"""The credit bench writes its files, and names a missing peer in one line."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "credit_correctness.py"


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, "--steps", "64", *options],
        cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_bench_writes_table_figure_and_file(tmp_path: Path) -> None:
    outcome = bench("--out", str(tmp_path))
    assert outcome.returncode == 0, outcome.stderr
    assert "MICA (+ immediate)" in outcome.stdout
    assert (tmp_path / "credit.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads((tmp_path / "credit.json").read_text())
    resets = record["estimators"]["token return, resets"]
    assert resets["properties"]["crosses_turns"] is False
    # Infinity becomes null in the file.
    assert resets["processes"]["survivors"]["noise"] is None
    assert record["estimators"]["turn, leave-one-out"]["processes"]["survivors"]["z"] < 3
    assert len(record["group_sizes"]) == 18


@pytest.mark.skipif(importlib.util.find_spec("verl") is not None, reason="verl is installed here")
def test_missing_peer_is_named_in_one_line(tmp_path: Path) -> None:
    outcome = bench("--out", str(tmp_path), "--peer", "verl")
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("credit_correctness: --peer verl: import verl failed")
    assert outcome.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
