"""The folder of one run: what lies where in it, made and found again. The parts write their own files."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mica_ray.config.references import ConfigError
from mica_ray.config.run_config import RunConfig
from mica_ray.evaluation.evaluate import Evaluation, ScenarioRow, summary_of_rows
from mica_ray.evaluation.report import evaluation_record
from mica_ray.files import write_json

_CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of one run. `create` writes the config; the rest is written by whoever owns the path."""

    path: Path

    @classmethod
    def create(cls, config: RunConfig, path: Path) -> RunFolder:
        """Make the folder and write the resolved config into it.

        Raises:
            ConfigError: it holds another run already, or cannot be written.
        """
        folder = cls(path.absolute())
        if folder.path.exists() and any(folder.path.iterdir()):
            raise ConfigError(
                f"{path}: not empty; choose another folder by --set out=FOLDER, or --resume {path}"
            )
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            config.write(folder.config_file)
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be written ({error.strerror}); name another by --set out=FOLDER"
            ) from error
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Find a run again.

        Raises:
            ConfigError: there is none.
        """
        folder = cls(path.absolute())
        if not folder.config_file.is_file():
            raise ConfigError(
                f"{path}: no {_CONFIG}, so no run to continue; give the folder that `mica train` named"
            )
        return folder

    @staticmethod
    def holds_run(path: Path) -> bool:
        """Say whether a folder is a run's."""
        return (path / _CONFIG).is_file() and (path / "checkpoints").is_dir()

    @property
    def config_file(self) -> Path:
        """The resolved config."""
        return self.path / _CONFIG

    @property
    def checkpoints(self) -> Path:
        """Run states."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """One JSON line per step."""
        return self.path / "metrics.jsonl"

    @property
    def dialogues(self) -> Path:
        """One JSON line per training dialogue."""
        return self.path / "dialogues.jsonl"

    @property
    def costs(self) -> Path:
        """One JSON line per dialogue of training and evaluations: what its calls took."""
        return self.path / "costs.jsonl"

    @property
    def environment(self) -> Path:
        """One JSON line per start or resumption: its first step, git state, versions, machine."""
        return self.path / "environment.jsonl"

    @property
    def group_checkpoints(self) -> Path:
        """What the Ray Train group falls back to."""
        return self.path / "learner-group"

    @property
    def summary(self) -> Path:
        """The final table and the seconds of each stage."""
        return self.path / "summary.json"

    @property
    def tracking_uri(self) -> str:
        """The run's own MLflow store."""
        return f"sqlite:///{self.path / 'mlflow.db'}"

    @property
    def outbox(self) -> Path:
        """What MLflow is told, a JSON line per step's metrics, file or mark; beside it, how much it has."""
        return self.path / "mlflow_outbox.jsonl"

    @property
    def artifacts(self) -> Path:
        """Where MLflow keeps files."""
        return self.path / "mlflow"

    def evaluation_dialogues(self, when: str) -> Path:
        """One JSON line per evaluation dialogue, "before" or "after" training."""
        return self.path / f"evaluation_{when}.jsonl"

    def write_evaluation(self, when: str, evaluation: Evaluation, *, contaminated: bool = False) -> None:
        """Keep an evaluation's scores, so that a resumed run compares with the same beginning."""
        write_json(
            self.path / f"evaluation_{when}.json", evaluation_record(evaluation, contaminated=contaminated)
        )

    def read_evaluation(self, when: str, *, seed: int) -> Evaluation | None:
        """Give a kept evaluation without its dialogues, None when it was not made."""
        path = self.path / f"evaluation_{when}.json"
        if not path.is_file():
            return None
        return read_evaluation_record(json.loads(path.read_text()), seed=seed)

    def read_tracking_run(self) -> str | None:
        """Give the MLflow run this run is tracked in, None when there is none yet."""
        path = self.path / "mlflow_run.txt"
        return path.read_text().strip() if path.is_file() else None

    def write_tracking_run(self, run_id: str) -> None:
        """Remember the MLflow run."""
        scratch = self.path / ".mlflow_run.part"
        scratch.write_text(run_id + "\n")
        os.replace(scratch, self.path / "mlflow_run.txt")


def read_evaluation_record(record: Mapping[str, Any], *, seed: int) -> Evaluation:
    """Undo `evaluation_record`; the dialogues, which it left out, stay out.

    Raises:
        KeyError, TypeError: the record is of another form.
    """
    return summary_of_rows(
        tuple(_read_row(row) for row in record["scenarios"]),
        num_failed_dialogues=record["num_failed_dialogues"],
        num_failed_judgements=record["num_failed_judgements"],
        seed=seed,
    )


def _read_row(row: dict[str, Any]) -> ScenarioRow:
    """Undo what JSON made of NaN."""
    values: dict[str, Any] = {key: math.nan if value is None else value for key, value in row.items()}
    return ScenarioRow(**values)
