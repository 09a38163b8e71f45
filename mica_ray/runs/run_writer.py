"""Write the results of a run: metrics, MLflow, evaluations and the summary.

The paths are in runs/folder.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np

from mica_ray.chat.ledger import Ledger, total
from mica_ray.config.run_config import RunConfig
from mica_ray.dialogue.domain import Domain
from mica_ray.evaluation.comparable import reasons_of
from mica_ray.evaluation.costs import usd_per_point
from mica_ray.evaluation.evaluate import Evaluation, compare, evaluation_metrics
from mica_ray.files import StepLog, write_json
from mica_ray.recordings.dialogue_log import DialogueLog
from mica_ray.runs.folder import RunFolder
from mica_ray.runs.mlflow_run import start_tracking
from mica_ray.runs.provenance import environment, scenarios_digest
from mica_ray.runs.summary import RunSummary
from mica_ray.tracking.mlflow_tracker import MlflowTracker, TrackedDataset
from mica_ray.tracking.tracker import JsonlTracker, Tracker, Trackers
from mica_ray.training.checkpoint import Checkpoints
from mica_ray.types import Scenario


class RunWriter:
    """Writes the measurements of a run to its folder and MLflow. `open` opens the trackers.

    Attributes:
        seconds: duration by stage, filled by `timed`.
    """

    def __init__(self, config: RunConfig, folder: RunFolder) -> None:
        self._config, self._folder = config, folder
        self._datasets: list[TrackedDataset] = []
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time a stage; a stage that fails is not recorded."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start

    def write_environment(self, first_step: int) -> None:
        """Append the environment of this start or resumption to the file.

        Args:
            first_step: earlier entries for this step or later ones are dropped, as the steps are repeated.
        """
        StepLog(self._folder.environment, first_step=first_step).append(first_step, [environment()])

    def add_dataset(self, scenarios: Sequence[Scenario], context: Literal["training", "evaluation"]) -> None:
        """Add scenarios whose digest `open` logs to MLflow."""
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
        """Write the environment, and open the metrics file and MLflow, or continue them.

        Args:
            first_step: rows of this step or later ones are dropped, as the steps are repeated.
            extra: one more tracker, such as the console.

        Raises:
            ConfigError: MLflow cannot be reached at the start, or does not know the run to continue.
        """
        self.write_environment(first_step)
        mlflow = self._open_mlflow()
        file = JsonlTracker(self._folder.metrics, first_step=first_step)
        return Trackers([file, mlflow, *([extra] if extra else [])])

    def _open_mlflow(self) -> MlflowTracker:
        mlflow = start_tracking(self._config, self._folder)
        if mlflow.is_new:
            for dataset in self._datasets:
                mlflow.dataset(dataset)
        return mlflow

    def write_evaluation(self, when: str, evaluation: Evaluation, tracker: Tracker, *, step: int) -> None:
        """Write the scores and dialogues of an evaluation to the run folder, and log its metrics."""
        folder = self._folder
        path = folder.evaluation_dialogues(when)
        path.unlink(missing_ok=True)
        turns = self._config.whole_rewards(evaluation.dialogues)
        # An evaluation computes no credit; the dialogue log writes NaN as null.
        no_credit = np.full(turns.rewards.shape, np.nan)
        DialogueLog(path).append(
            step, evaluation.dialogues, turns=turns, returns=no_credit, advantages=no_credit
        )
        folder.write_evaluation(when, evaluation, contaminated=self._config.contaminated)
        tracker.log(evaluation_metrics(evaluation), step)
        tracker.artifact(path)

    def write_summary(
        self,
        checkpoints: Checkpoints,
        before: Evaluation,
        after: Evaluation,
        ledger: Ledger,
        *,
        domain: Domain,
    ) -> RunSummary:
        """Write the summary of a finished run, and return it; `domain` is the one that was evaluated."""
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
            reasons=reasons_of(self._config.model_dump(mode="json"), after, domain=domain),
            costs=ledger.totals(),
            usd_per_point=usd_per_point(total(ledger.totals(["train"])).usd, comparison.epm_q.estimate),
        )
        write_json(self._folder.summary, summary.to_json())
        return summary
