"""The paths of a run folder, and its small JSON files. See README.md here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mica_ray.config.references import ConfigError
from mica_ray.config.run_config import RunConfig
from mica_ray.evaluation.evaluate import Evaluation, ScenarioRow, summary_of_rows
from mica_ray.evaluation.tables import evaluation_record
from mica_ray.files import JsonFileError, read_json_object, write_json, write_whole

_CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of one run. `create` writes the config; other parts write the other files."""

    path: Path

    @classmethod
    def create(cls, config: RunConfig, path: Path) -> RunFolder:
        """Create the folder and write the config to it.

        Raises:
            ConfigError: the folder is not empty, or cannot be written.
        """
        folder = cls(path.absolute())
        if folder.path.exists() and any(folder.path.iterdir()):
            raise ConfigError(
                f"{path} is not empty. Set out=FOLDER, or continue the run with --resume {path}."
            )
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            config.write(folder.config_file)
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be written ({error.strerror}). Set out=FOLDER to another folder."
            ) from error
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Return the folder of an existing run.

        Raises:
            ConfigError: the folder contains no run.
        """
        folder = cls(path.absolute())
        if not folder.config_file.is_file():
            raise ConfigError(
                f"{path} has no {_CONFIG}, so it is no run folder. Use a folder that `mica train` printed."
            )
        return folder

    @staticmethod
    def holds_run(path: Path) -> bool:
        """Whether a folder contains a run."""
        return (path / _CONFIG).is_file() and (path / "checkpoints").is_dir()

    @property
    def config_file(self) -> Path:
        """The config with all values."""
        return self.path / _CONFIG

    @property
    def checkpoints(self) -> Path:
        """Checkpoints, one folder per saved step."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """JSON lines of metrics by step."""
        return self.path / "metrics.jsonl"

    @property
    def dialogues(self) -> Path:
        """One JSON line per training dialogue."""
        return self.path / "dialogues.jsonl"

    @property
    def audit(self) -> Path:
        """One JSON line per dialogue that the audit judge scored again."""
        return self.path / "audit.jsonl"

    @property
    def costs(self) -> Path:
        """One JSON line per dialogue of training and evaluations: the costs of its calls."""
        return self.path / "costs.jsonl"

    @property
    def environment(self) -> Path:
        """One JSON line per start or resumption: first step, git state, versions, machine."""
        return self.path / "environment.jsonl"

    @property
    def group_checkpoints(self) -> Path:
        """Checkpoints from which Ray Train restarts the learner group."""
        return self.path / "learner-group"

    @property
    def summary(self) -> Path:
        """The results of a finished run (runs/summary.py)."""
        return self.path / "summary.json"

    @property
    def scenarios(self) -> Path:
        """Digests of the scenarios that the run plays (runs/scenario_texts.py)."""
        return self.path / "scenarios.json"

    @property
    def tracking_uri(self) -> str:
        """The run's own MLflow store."""
        return f"sqlite:///{self.path / 'mlflow.db'}"

    @property
    def outbox(self) -> Path:
        """Queue of entries for MLflow, as JSON lines; a file next to it counts those sent."""
        return self.path / "mlflow_outbox.jsonl"

    @property
    def artifacts(self) -> Path:
        """Artifacts of the run's own MLflow store."""
        return self.path / "mlflow"

    def evaluation_dialogues(self, when: str) -> Path:
        """One JSON line per evaluation dialogue; `when` is "before" or "after" training."""
        return self.path / f"evaluation_{when}.jsonl"

    def write_evaluation(self, when: str, evaluation: Evaluation, *, contaminated: bool = False) -> None:
        """Write the scores of an evaluation; a resumed run reads those from before training."""
        write_json(
            self.path / f"evaluation_{when}.json", evaluation_record(evaluation, contaminated=contaminated)
        )

    def read_evaluation(self, when: str, *, seed: int) -> Evaluation | None:
        """Read an evaluation without its dialogues; None if it was not written yet.

        Raises:
            ConfigError: the file is not an evaluation.
        """
        path = self.path / f"evaluation_{when}.json"
        if not path.is_file():
            return None
        try:
            return read_evaluation_record(read_object(path), seed=seed)
        except (KeyError, TypeError) as error:
            raise ConfigError(f"{path} is not an evaluation ({error}). Train the run again.") from error

    def read_summary(self) -> dict[str, Any] | None:
        """Read the summary; None while the run is unfinished.

        Raises:
            ConfigError: the file cannot be read.
        """
        return read_object(self.summary) if self.summary.exists() else None

    def set_ending_aside(self) -> None:
        """Rename the results of an earlier end, which are not those of the run that continues now."""
        for file in (self.summary, self.path / "evaluation_after.json"):
            if file.exists():
                file.replace(self.path / f"{file.stem}_before_resume.json")

    def read_tracking_run(self) -> str | None:
        """Return the id of the MLflow run; None if it was not created yet."""
        path = self.path / "mlflow_run.txt"
        return path.read_text().strip() if path.is_file() else None

    def write_tracking_run(self, run_id: str) -> None:
        """Write the id of the MLflow run."""
        write_whole(self.path / "mlflow_run.txt", run_id + "\n")


def read_evaluation_record(record: Mapping[str, Any], *, seed: int) -> Evaluation:
    """Convert the JSON of `evaluation_record` back to an evaluation, without dialogues.

    Raises:
        KeyError, TypeError: the JSON has another form.
    """
    return summary_of_rows(
        tuple(_read_row(row) for row in record["scenarios"]),
        num_failed_dialogues=record["num_failed_dialogues"],
        num_failed_judgements=record["num_failed_judgements"],
        num_silent_replies=record.get("num_silent_replies", 0),  # Older runs do not count them.
        seed=seed,
    )


def _read_row(row: dict[str, Any]) -> ScenarioRow:
    """Convert null, which JSON has instead of NaN, back to NaN."""
    values: dict[str, Any] = {key: math.nan if value is None else value for key, value in row.items()}
    return ScenarioRow(**values)


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that contains one JSON object.

    Raises:
        ConfigError: the file cannot be read, or does not contain a JSON object.
    """
    try:
        return read_json_object(path)
    except JsonFileError as error:
        raise ConfigError(str(error)) from error
