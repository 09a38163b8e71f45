"""RunSummary: the results of a finished run, written to summary.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mica_ray.chat.ledger import Tally
from mica_ray.evaluation.evaluate import Comparison, Evaluation
from mica_ray.evaluation.tables import comparison_record, evaluation_record
from mica_ray.runs.folder import RunFolder


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Results of a run, and where its files are."""

    folder: RunFolder
    policy: Path
    """The trained policy, a Hugging Face model folder."""
    tracking_uri: str
    before: Evaluation
    after: Evaluation
    comparison: Comparison
    seconds: Mapping[str, float]
    """Duration by stage: set_up, evaluate_before, train, evaluate_after. Stages that a resumed run skipped
    are absent."""
    costs: Mapping[str, Tally]
    """By role, over training and all evaluations, including work repeated after a resume."""
    usd_per_point: float | None
    """USD of the training dialogues per point of EPM-Q gained; None without a gain or a price."""
    contaminated: bool = False
    """Whether official EMPA test cases were training scenarios."""
    reasons: tuple[str, ...] = ()
    """Why the scores cannot be compared with published ones (evaluation/comparable.py)."""
    registered: str | None = None
    """Name and version in MLflow's registry, or why registering failed; None if not requested."""

    def to_json(self) -> dict[str, object]:
        """Return the summary as plain JSON values."""
        return {
            "folder": str(self.folder.path),
            "policy": str(self.policy),
            "tracking_uri": self.tracking_uri,
            "contaminated": self.contaminated,
            "reasons_not_comparable": list(self.reasons),
            "before": evaluation_record(self.before, contaminated=self.contaminated),
            "after": evaluation_record(self.after, contaminated=self.contaminated),
            "difference": comparison_record(self.comparison),
            "seconds": dict(self.seconds),
            "costs": {role: asdict(tally) for role, tally in self.costs.items()},
            "usd_per_epm_q_point": self.usd_per_point,
        }
