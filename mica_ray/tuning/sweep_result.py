"""What a sweep came to: a row for each cell, and the answer as a sentence. Statistics: evaluation/arms.py."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mica_ray.evaluation.arms import (
    Arm,
    difference,
    interquartile_mean,
    mean,
    probability_of_improvement,
    verdict,
)
from mica_ray.statistics import Interval
from mica_ray.tuning.space import Cell
from mica_ray.tuning.sweep import EVALUATED, Sweep
from mica_ray.tuning.trial import curve, scores
from mica_ray.tuning.trial_book import TrialEntry, TrialStatus


@dataclass(frozen=True, slots=True)
class CellRow:
    """What the trials of one cell came to."""

    cell: Cell
    trials: Mapping[TrialStatus, int]
    """Trials by how they ended."""
    middle: Interval
    """Interquartile mean of the metric over seeds and cases; NaN without a finished trial."""
    mean: Interval
    gain: Interval | None
    """Mean of this cell minus that of the reference, over what they share; None for the reference."""
    chance: Interval | None
    """Probability that a seed of this cell does better than one of the reference."""
    curves: tuple[Mapping[int, float], ...]
    """For each trial, the sweep's curve metric by step."""


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a sweep came to."""

    rows: tuple[CellRow, ...]
    """In the order of the cells."""
    reference: str | None
    """The cell that others are compared with; None without any score."""
    answer: str
    entries: tuple[TrialEntry, ...]
    unplayed: str = ""
    """Why trials were left out; empty where none was."""

    def record(self) -> dict[str, object]:
        """Give the table as plain JSON values; nothing in it depends on how long anything took."""
        return {
            "answer": self.answer,
            "reference": self.reference,
            "unplayed": self.unplayed,
            "cells": {
                row.cell.name: {
                    "trials": dict(row.trials),
                    "interquartile_mean": asdict(row.middle),
                    "mean": asdict(row.mean),
                    "difference": None if row.gain is None else asdict(row.gain),
                    "probability_of_improvement": None if row.chance is None else asdict(row.chance),
                }
                for row in self.rows
            },
            "trials": {
                entry.trial.id: {"status": entry.status, "retries": entry.retries, "reason": entry.reason}
                for entry in self.entries
            },
        }


def cell_scores(sweep: Sweep, entries: Sequence[TrialEntry]) -> dict[str, float]:
    """Give the mean metric of each cell over its finished trials, NaN without any; for the search."""
    return {
        name: mean(arm).estimate if arm is not None else math.nan
        for name, arm in _arms(sweep, entries).items()
    }


def conclude(sweep: Sweep, entries: Sequence[TrialEntry], *, unplayed: str = "") -> SweepResult:
    """Compare the cells of a sweep.

    The reference is the sweep's, or else the best cell by interquartile mean. The answer compares the best
    cell with the reference, and where that is one cell, with the next best. Intervals are not widened for
    having chosen the best of several by the same scores.

    Args:
        sweep: that was played.
        entries: of its trials.
        unplayed: why some were left out.
    """
    arms = _arms(sweep, entries)
    scored = {name: arm for name, arm in arms.items() if arm is not None}
    middles = {name: interquartile_mean(arm) for name, arm in scored.items()}
    sign = 1 if sweep.mode == "max" else -1
    ranked = sorted(scored, key=lambda name: -sign * middles[name].estimate)
    chosen = sweep.reference if sweep.reference in scored else (ranked[0] if ranked else None)
    nothing = Interval(math.nan, math.nan, math.nan)

    def row(cell: Cell) -> CellRow:
        own = [entry for entry in entries if entry.trial.cell.name == cell.name]
        arm = arms[cell.name]
        other = scored[chosen] if chosen is not None and cell.name != chosen else None
        return CellRow(
            cell=cell,
            trials=Counter(entry.status for entry in own),
            middle=middles.get(cell.name, nothing),
            mean=mean(arm) if arm is not None else nothing,
            gain=difference(arm, other) if arm and other else None,
            chance=probability_of_improvement(arm, other) if arm and other else None,
            curves=tuple(curve(entry.trial.folder, sweep.curve) for entry in own),
        )

    cells = {entry.trial.cell.name: entry.trial.cell for entry in entries}
    return SweepResult(
        rows=tuple(row(cell) for cell in cells.values()),
        reference=chosen,
        answer=_answer(sweep, ranked, scored, chosen),
        entries=tuple(entries),
        unplayed=unplayed,
    )


def _arms(sweep: Sweep, entries: Sequence[TrialEntry]) -> dict[str, Arm | None]:
    """Give the scores of each cell's finished trials; None for a cell without any."""
    field = EVALUATED.get(sweep.metric)
    found: dict[str, dict[int, Mapping[str, float]]] = {entry.trial.cell.name: {} for entry in entries}
    for entry in entries:
        if entry.status == "finished":
            found[entry.trial.cell.name][entry.trial.seed] = scores(entry.trial, sweep.metric, field)
    return {name: _arm(name, by_seed) if by_seed else None for name, by_seed in found.items()}


def _arm(name: str, by_seed: Mapping[int, Mapping[str, float]]) -> Arm:
    cases = sorted({case for scored in by_seed.values() for case in scored})
    return Arm(
        name=name,
        scores=np.array([[scored.get(case, math.nan) for case in cases] for scored in by_seed.values()]),
        seeds=tuple(by_seed),
        cases=tuple(cases),
    )


def _answer(sweep: Sweep, ranked: Sequence[str], scored: Mapping[str, Arm], reference: str | None) -> str:
    if reference is None:
        return "No trial came to its end, so there is no answer."
    if len(ranked) == 1:
        return f"{reference} alone has a finished trial, so nothing is compared."
    best = ranked[0]
    other = reference if best != reference else ranked[1]
    word = "Highest" if sweep.mode == "max" else "Lowest"
    return f"{word} of {len(ranked)} is {best}. {verdict(scored[best], scored[other], sweep.metric)}"
