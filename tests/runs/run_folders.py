"""Run folders as `mica train` writes them, with scores set by hand and no training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mica_ray.config.run_config import RunConfig
from mica_ray.evaluation.evaluate import ScenarioRow, summary_of_rows
from mica_ray.files import write_json
from mica_ray.runs.folder import RunFolder


def run_folder(
    path: Path,
    *,
    config: RunConfig,
    before: Sequence[float],
    after: Sequence[float] | None,
    usd: float = 0.0,
    steps_done: int = 0,
) -> Path:
    """Write a run with scenarios a, b, ..., two dialogues each, passed at a score >= 50.

    Args:
        path: run folder.
        config: of the run; `out` becomes the folder.
        before: EPM-Q by scenario.
        after: EPM-Q after training; None for an unfinished run.
        usd: cost of the judge.
        steps_done: number of steps with a line of metrics.
    """
    folder = RunFolder.create(config.model_copy(update={"out": path}), path)
    for when, scores in (("before", before), ("after", after)):
        if scores is not None:
            rows = tuple(_row(name, score) for name, score in zip("abcdefgh", scores, strict=False))
            evaluation = summary_of_rows(rows, num_failed_dialogues=0, num_failed_judgements=0, seed=0)
            folder.write_evaluation(when, evaluation, contaminated=config.contaminated)
    lines = [json.dumps({"step": step, "weight_version": step + 1}) for step in range(steps_done)]
    folder.metrics.write_text("".join(line + "\n" for line in lines) + '{"step": 99, "weig')
    if after is not None:
        write_json(folder.summary, {"costs": {"judge": {"usd": usd}}})
    return path


def _row(name: str, score: float) -> ScenarioRow:
    return ScenarioRow(
        scenario=name,
        category="work",
        dominant_axis="C",
        epm_q=score,
        passes=2 * (score >= 50),
        samples=2,
        idr=score / 100,
        num_turns=8.0,
    )
