"""Finished trials without training: run folders with the scores that a test needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mica_ray.evaluation.evaluate import ScenarioRow, summary_of_rows
from mica_ray.files import StepLog, write_json
from mica_ray.runs.folder import RunFolder
from mica_ray.tuning.trial import Trial


def finish(trial: Trial, scores: Mapping[str, float], idr_by_step: Sequence[float] = (0.0,)) -> None:
    """Write the files of a finished run with the EPM-Q of each scenario."""
    folder = RunFolder.create(trial.config, trial.folder.path)
    rows = tuple(
        ScenarioRow(name, "work", "A", epm_q=score, passes=0, samples=1, idr=0.0, num_turns=1.0)
        for name, score in scores.items()
    )
    evaluation = summary_of_rows(rows, num_failed_dialogues=0, num_failed_judgements=0, seed=0)
    folder.write_evaluation("after", evaluation)
    records = StepLog(folder.metrics)
    for step, idr in enumerate(idr_by_step):
        records.append(step, [{"idr_mean": idr}])
    write_json(folder.summary, {})
