"""Metrics and costs of a run folder as DataFrames: the same numbers as in its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mica_ray.chat.ledger import Ledger
from mica_ray.config.references import ConfigError
from mica_ray.runs.frames import COST_COLUMNS, costs_frame, metrics_frame
from tests.runs.written_run import write_lines, write_run


def test_metrics_have_a_row_per_step_and_nan_where_nothing_was_logged(tmp_path: Path) -> None:
    frame = metrics_frame(write_run(tmp_path / "run"))
    # Step 0 has two lines, of the evaluation and of training; reward_mean of step 1 is null in the file.
    assert frame["step"].tolist() == [0, 1]
    np.testing.assert_array_equal(frame["eval_epm_q"], [20.0, np.nan])
    np.testing.assert_array_equal(frame["reward_mean"], [0.5, np.nan])
    assert frame["weight_version"].tolist() == [1.0, 2.0]
    assert frame["step"].dtype == np.int64
    assert {str(kind) for kind in frame.drop(columns="step").dtypes} == {"float64"}


def test_metrics_are_in_the_order_of_their_table_and_others_follow(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    write_lines(folder / "metrics.jsonl", [{"step": 3, "own": 1.0, "loss": 2.0, "reward_mean": 3.0}])
    assert list(metrics_frame(folder)) == ["step", "reward_mean", "loss", "own"]


def test_costs_have_a_row_per_dialogue_and_role_and_add_up_to_the_ledger(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    rows = [
        {"phase": phase, "step": 0, "scenario": "a", "sample": sample,
         "roles": {"judge": {"calls": sample + 1, "usd": 0.5}, "actor": {"calls": 1, "prompt_tokens": 10}}}
        for phase in ("train", "evaluate_after") for sample in (0, 1)
    ]  # fmt: skip
    write_lines(folder / "costs.jsonl", rows)
    frame = costs_frame(folder)
    assert len(frame) == 8
    assert list(frame) == list(COST_COLUMNS)
    judge = frame.query("phase == 'train' and role == 'judge'")
    # Two training dialogues: the judge was called once and twice, at 0.5 USD each.
    assert judge["calls"].tolist() == [1, 2]
    assert judge["usd"].tolist() == [0.5, 0.5]
    assert frame.query("role == 'actor'")["prompt_tokens"].tolist() == [10, 10, 10, 10]
    total = Ledger(folder / "costs.jsonl").totals()["judge"]
    assert sum(frame.query("role == 'judge'")["calls"].tolist()) == total.calls == 6


def test_missing_files_make_frames_with_columns_and_no_rows(tmp_path: Path) -> None:
    assert list(metrics_frame(tmp_path)) == ["step"]
    assert list(costs_frame(tmp_path)) == list(COST_COLUMNS)
    assert len(metrics_frame(tmp_path)) == len(costs_frame(tmp_path)) == 0


def test_invalid_line_of_costs_is_named(tmp_path: Path) -> None:
    write_lines(tmp_path / "costs.jsonl", [{"phase": "train"}])
    with pytest.raises(ConfigError, match=r"costs\.jsonl has an invalid line"):
        costs_frame(tmp_path)
