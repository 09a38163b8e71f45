"""Result of a sweep: a row per cell, and the answer as a sentence. Statistics are in evaluation/arms.py."""

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
    """Scores of one cell's trials."""

    cell: Cell
    trials: Mapping[TrialStatus, int]
    """Number of trials by status."""
    middle: Interval
    """Interquartile mean of the metric over seeds and cases; NaN without a finished trial."""
    mean: Interval
    gain: Interval | None
    """Mean of this cell minus that of the reference, over shared cases; None for the reference."""
    chance: Interval | None
    """Probability that a run of this cell scores higher than one of the reference; None for the reference."""
    curves: tuple[Mapping[int, float], ...]
    """Per trial, the sweep's curve metric by step."""


@dataclass(frozen=True, slots=True)
class SweepResult:
    """Result of a sweep."""

    rows: tuple[CellRow, ...]
    """One per cell, in the order of the cells."""
    reference: str | None
    """Name of the cell that the others are compared with; None if there are no scores."""
    answer: str
    entries: tuple[TrialEntry, ...]
    unplayed: str = ""
    """Budget limit that left trials out; empty if none were left out."""

    def record(self) -> dict[str, object]:
        """Return the result as plain JSON values, without durations: equal sweeps have equal records."""
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
    """Return each cell's mean metric over its finished trials, NaN without any; the search uses it."""
    return {
        name: mean(arm).estimate if arm is not None else math.nan
        for name, arm in _arms(sweep, entries).items()
    }


def conclude(sweep: Sweep, entries: Sequence[TrialEntry], *, unplayed: str = "") -> SweepResult:
    """Compare the cells of a sweep.

    The reference is the sweep's; if it names none, or that cell has no score, it is the best cell by
    interquartile mean. The answer compares the
    best cell with the reference, or with the second best cell if the reference is the best. Intervals are not
    corrected for selecting the best of several cells by the same scores.

    Args:
        sweep: the sweep.
        entries: its trials.
        unplayed: budget limit that left trials out.
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
    """Return the scores of each cell's finished trials; None for a cell without any."""
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
        return "No trial has finished, so there is no answer."
    if len(ranked) == 1:
        return f"Only {reference} has a finished trial, so there is nothing to compare."
    best = ranked[0]
    other = reference if best != reference else ranked[1]
    extreme = "highest" if sweep.mode == "max" else "lowest"
    compared = verdict(scored[best], scored[other], sweep.metric)
    return f"Of {len(ranked)} cells, {best} has the {extreme} interquartile mean. {compared}"
