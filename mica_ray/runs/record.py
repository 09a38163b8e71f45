"""What a run leaves behind: metrics, MLflow, evaluations, the summary. Paths are in run_folder.py."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mica_ray.chat.ledger import Ledger, Tally, total
from mica_ray.config.run_config import RunConfig
from mica_ray.evaluation.costs import usd_per_point
from mica_ray.evaluation.evaluate import Comparison, Evaluation, compare, evaluation_metrics
from mica_ray.evaluation.report import comparison_record, evaluation_record
from mica_ray.files import StepLog, write_json
from mica_ray.recordings.dialogue_log import DialogueLog
from mica_ray.runs.folder import RunFolder
from mica_ray.runs.mlflow_run import begin_tracking
from mica_ray.runs.provenance import environment, scenarios_digest
from mica_ray.tracking.mlflow_tracker import MlflowTracker, TrackedDataset
from mica_ray.tracking.tracker import JsonlTracker, Tracker, Trackers
from mica_ray.training.checkpoint import Checkpoints
from mica_ray.types import Scenario


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run came to and where everything lies."""

    folder: RunFolder
    policy: Path
    """The trained policy, a Hugging Face model folder."""
    tracking_uri: str
    before: Evaluation
    after: Evaluation
    comparison: Comparison
    seconds: Mapping[str, float]
    """By stage: set_up, evaluate_before, train, evaluate_after; what a resumed run did not redo is absent."""
    costs: Mapping[str, Tally]
    """By role, over training and all evaluations, what was done again after a resume included."""
    usd_per_point: float | None
    """USD of the training dialogues per point of EPM-Q gained; None without a gain or without a price."""
    contaminated: bool = False
    """Whether official EMPA test cases were trained on."""
    registered: str | None = None
    """Model and version in MLflow's registry, or why there is none; None where none was asked for."""

    def record(self) -> dict[str, object]:
        """Give the summary as plain JSON values."""
        return {
            "folder": str(self.folder.path),
            "policy": str(self.policy),
            "tracking_uri": self.tracking_uri,
            "contaminated": self.contaminated,
            "before": evaluation_record(self.before, contaminated=self.contaminated),
            "after": evaluation_record(self.after, contaminated=self.contaminated),
            "difference": comparison_record(self.comparison),
            "seconds": dict(self.seconds),
            "costs": {role: asdict(tally) for role, tally in self.costs.items()},
            "usd_per_epm_q_point": self.usd_per_point,
        }


class RunRecord:
    """Takes what a run measures and writes it down. Opens its trackers when `open` is called.

    Attributes:
        seconds: by stage, filled by `timed`.
    """

    def __init__(self, config: RunConfig, folder: RunFolder) -> None:
        self._config, self._folder = config, folder
        self._datasets: list[TrackedDataset] = []
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time a stage; one that fails has no time."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start

    def note_environment(self, first_step: int) -> None:
        """Write down what this start or resumption runs in; earlier starts stay in the file.

        Args:
            first_step: starts noted for it and later steps are dropped, because those steps come again.
        """
        StepLog(self._folder.environment, first_step=first_step).append(first_step, [environment()])

    def uses(self, scenarios: Sequence[Scenario], context: Literal["training", "evaluation"]) -> None:
        """Say which scenarios the run uses, before `open`: MLflow is told their digest."""
        config = self._config
        self._datasets.append(
            TrackedDataset(
                name=f"{config.domain.rpartition(':')[2]}-{scenarios[0].split}",
                digest=scenarios_digest(scenarios),
                source=str(config.scenarios_file or config.cards or config.domain),
                context=context,
            )
        )

    def open(self, first_step: int, extra: Tracker | None) -> Trackers:
        """Note the environment, and open the metrics file and MLflow; a resumed run goes on in the same.

        Args:
            first_step: records of it and later steps are dropped, because those steps come again.
            extra: one more tracker, such as the screen.

        Raises:
            ConfigError: MLflow cannot be reached when a run begins, or does not know the run that goes on.
        """
        self.note_environment(first_step)
        mlflow = self._open_mlflow()
        file = JsonlTracker(self._folder.metrics, first_step=first_step)
        return Trackers([file, mlflow, *([extra] if extra else [])])

    def _open_mlflow(self) -> MlflowTracker:
        mlflow = begin_tracking(self._config, self._folder)
        if mlflow.is_new:
            for dataset in self._datasets:
                mlflow.dataset(dataset)
        return mlflow

    def keep_evaluation(self, when: str, evaluation: Evaluation, tracker: Tracker, *, step: int) -> None:
        """Write scores and dialogues of an evaluation into the run folder, and its numbers to the tracker."""
        folder = self._folder
        path = folder.evaluation_dialogues(when)
        path.unlink(missing_ok=True)
        turns = self._config.rewards(evaluation.dialogues)
        # No credit is given in an evaluation; the records write NaN as null.
        nothing = np.full(turns.rewards.shape, np.nan)
        DialogueLog(path).append(step, evaluation.dialogues, turns=turns, returns=nothing, advantages=nothing)
        folder.write_evaluation(when, evaluation, contaminated=self._config.contaminated)
        tracker.log(evaluation_metrics(evaluation), step)
        tracker.artifact(path)

    def summarize(
        self, checkpoints: Checkpoints, before: Evaluation, after: Evaluation, ledger: Ledger
    ) -> RunSummary:
        """Write the summary of a finished run."""
        latest, comparison = checkpoints.latest(), compare(before, after, seed=self._config.evaluation.seed)
        assert latest is not None, "the loop writes a checkpoint after its last step"
        summary = RunSummary(
            folder=self._folder,
            policy=latest / "learner" / "policy",
            tracking_uri=self._config.tracking_uri or self._folder.tracking_uri,
            before=before,
            after=after,
            comparison=comparison,
            seconds=self.seconds,
            contaminated=self._config.contaminated,
            costs=ledger.totals(),
            usd_per_point=usd_per_point(total(ledger.totals(["train"])).usd, comparison.epm_q.estimate),
        )
        write_json(self._folder.summary, summary.record())
        return summary
