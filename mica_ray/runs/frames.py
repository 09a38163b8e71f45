"""Metrics and costs of a run folder as pandas DataFrames.

Reads files only, of finished and of running runs. A missing file makes a frame without rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mica_ray.chat.ledger import Tally
from mica_ray.config.references import ConfigError
from mica_ray.runs.folder import RunFolder
from mica_ray.runs.stored_run import read_rows
from mica_ray.training.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

COST_COLUMNS = {
    "phase": "str",
    "step": "int64",
    "scenario": "str",
    "sample": "int64",
    "role": "str",
    "calls": "int64",
    "failed_calls": "int64",
    "retries": "int64",
    "prompt_tokens": "int64",
    "completion_tokens": "int64",
    "seconds": "float64",
    "usd": "float64",
}
"""Columns of `costs_frame` and their types; from "calls" on, the fields of chat/ledger.py's Tally."""


def metrics_frame(folder: Path) -> pd.DataFrame:
    """Return the metrics of a run, one row per step.

    Columns: "step" (int64), then each metric that was logged (float64), those of training/metrics.py's
    METRICS first and in its order. NaN where a metric was not logged or was not finite. The lines of one step
    (training, evaluation) are merged; if a metric occurs twice, the last value counts.

    Raises:
        ConfigError: the file cannot be read, or a line is invalid.
    """
    import pandas as pd

    steps: dict[int, dict[str, Any]] = {}
    for row in read_rows(RunFolder(folder).metrics):
        steps.setdefault(row["step"], {}).update(row)
    logged = dict.fromkeys(name for row in steps.values() for name in row if name != "step")
    names = [*(name for name in METRICS if name in logged), *(name for name in logged if name not in METRICS)]
    frame = pd.DataFrame(list(steps.values()), columns=["step", *names])
    return frame.astype({"step": "int64"} | dict.fromkeys(names, "float64"))


def costs_frame(folder: Path) -> pd.DataFrame:
    """Return the costs of a run, one row per dialogue and role, with the columns COST_COLUMNS.

    Raises:
        ConfigError: the file cannot be read, or a line is invalid.
    """
    import pandas as pd

    path = RunFolder(folder).costs
    rows: list[dict[str, Any]] = []
    for row in read_rows(path):
        try:
            dialogue = {name: row[name] for name in ("phase", "step", "scenario", "sample")}
            rows += [
                {**dialogue, "role": role, **_numbers(Tally(**tally))} for role, tally in row["roles"].items()
            ]
        except (KeyError, TypeError) as error:
            raise ConfigError(f"{path} has an invalid line ({error}). Correct or delete the line.") from error
    return pd.DataFrame(rows, columns=list(COST_COLUMNS)).astype(COST_COLUMNS)


def _numbers(tally: Tally) -> dict[str, float]:
    return {name: getattr(tally, name) for name in COST_COLUMNS if hasattr(tally, name)}
