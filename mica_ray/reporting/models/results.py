"""Stored results of models on the paper's benchmarks: what every item scored, from any kind of file.

sources.py finds and reads the files; columns.py adds the items up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mica_ray.evaluation.epm_q import INDEX_NAMES
from mica_ray.recordings.recorded_dialogue import RecordedDialogue

EMPA, EMOBENCH, EQBENCH2, EQBENCH3 = "empa", "emobench", "eqbench2", "eqbench3"
TITLES: Mapping[str, str] = {
    EMPA: "EMPA",
    EMOBENCH: "EmoBench",
    EQBENCH2: "EQ-Bench v2",
    EQBENCH3: "EQ-Bench 3",
}
"""Benchmarks of the table in the order of its columns, with their names."""

INDEX_GROUPS: Mapping[str, tuple[str, ...]] = {
    "outcome": INDEX_NAMES[:3],
    "efficiency": INDEX_NAMES[3:6],
    "stability": INDEX_NAMES[6:],
}
"""Components of EPM-Q with their indices."""


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """What one model scored on one benchmark, from one source."""

    benchmark: str
    """A key of TITLES."""
    source: Path
    scores: Mapping[str, Mapping[str, float]]
    """Score of each item by part: "EA" and "EU" of EmoBench, "score" of EQ-Bench. EMPA has "epm_q", "passed"
    (share of the case's dialogues), and "outcome", "efficiency" and "stability", the means of three indices
    each. Samples of an item are averaged. An item without a readable answer is absent."""
    num_answers: int
    """Answers or dialogues, readable or not."""
    num_unreadable: int
    """Answers in which no score could be found, or judgements of dialogues that failed."""
    num_failed: int = 0
    """Dialogues that failed."""
    passes: int = 0
    """EMPA: dialogues that succeeded."""
    num_scored: int = 0
    """EMPA: dialogues that were scored."""
    drawable: tuple[RecordedDialogue, ...] = ()
    """EMPA: dialogues that did not fail."""
    reasons: tuple[str, ...] = ()
    """Why the score is not comparable with published ones; empty if no reason is known."""

    @property
    def items(self) -> frozenset[str]:
        """Items with a score."""
        return frozenset(item for part in self.scores.values() for item in part)


@dataclass(frozen=True, slots=True)
class ModelResults:
    """All results of one model: a row of the table."""

    name: str
    results: tuple[BenchmarkResult, ...] = ()
    curves: tuple[Mapping[int, float], ...] = ()
    """EPM-Q of a training run's evaluations by step, one curve per run."""

    def of(self, benchmark: str) -> tuple[BenchmarkResult, ...]:
        """Return the results on a benchmark, one per run of the model."""
        return tuple(result for result in self.results if result.benchmark == benchmark)

    def item_means(self, benchmark: str, part: str) -> dict[str, float]:
        """Return the mean score of each item over the runs that have one."""
        values: dict[str, list[float]] = {}
        for result in self.of(benchmark):
            for item, score in result.scores.get(part, {}).items():
                values.setdefault(item, []).append(score)
        return {item: float(np.mean(scores)) for item, scores in values.items()}
