"""Choice of the cells to try: all of a grid, random ones, or those that Optuna proposes. Trains nothing."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mica_ray.tuning.space import Cell, Dimension, show_value
from mica_ray.tuning.sweep import Grid, Optuna, Random, Sweep

if TYPE_CHECKING:
    import optuna

Rounds = Generator[tuple[Cell, ...], Mapping[str, float], None]
"""Yields the cells of a round; send it their metric by cell name, NaN for a cell without a score."""


def rounds(sweep: Sweep) -> Rounds:
    """Propose cells round by round. Depends only on the sweep and the metrics sent."""
    match sweep.search:
        case Grid():
            yield _grid(sweep.dimensions)
        case Random() as search:
            yield _draw(sweep.dimensions, search)
        case Optuna() as search:
            yield from _propose(sweep.dimensions, search, sweep.mode)


def _cell(dimensions: Sequence[Dimension], choices: Sequence[tuple[str, object]]) -> Cell:
    pairs = list(zip(dimensions, choices, strict=True))
    return Cell(
        labels={dimension.key: label for dimension, (label, _) in pairs},
        values={dimension.key: value for dimension, (_, value) in pairs},
    )


def _grid(dimensions: Sequence[Dimension]) -> tuple[Cell, ...]:
    return tuple(
        _cell(dimensions, choices)
        for choices in itertools.product(*(dimension.options.items() for dimension in dimensions))
    )


def _draw(dimensions: Sequence[Dimension], search: Random) -> tuple[Cell, ...]:
    """Draw each cell from its own generator, so that raising num_cells keeps the earlier cells."""
    cells: dict[str, Cell] = {}
    for number in range(search.num_cells):
        generator = np.random.default_rng([search.seed, number])
        choices: list[tuple[str, object]] = []
        for dimension in dimensions:
            if dimension.span is None:
                labels = list(dimension.options)
                label = labels[int(generator.integers(len(labels)))]
                choices.append((label, dimension.options[label]))
            else:
                value = dimension.span.at(float(generator.random()))
                choices.append((show_value(value), value))
        cell = _cell(dimensions, choices)
        cells.setdefault(cell.name, cell)
    return tuple(cells.values())


def _propose(dimensions: Sequence[Dimension], search: Optuna, mode: str) -> Rounds:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # constant_liar treats earlier proposals of the round as bad, which keeps proposals apart.
        sampler = optuna.samplers.TPESampler(
            seed=search.seed, constant_liar=True, n_startup_trials=search.round_size
        )
    study = optuna.create_study(sampler=sampler, direction="maximize" if mode == "max" else "minimize")
    for first in range(0, search.num_cells, search.round_size):
        count = min(search.round_size, search.num_cells - first)
        proposals = [study.ask() for _ in range(count)]
        cells = [_suggest(dimensions, trial) for trial in proposals]
        metrics = yield tuple({cell.name: cell for cell in cells}.values())
        for trial, cell in zip(proposals, cells, strict=True):
            value = metrics.get(cell.name, math.nan)
            if math.isnan(value):
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, value)


def _suggest(dimensions: Sequence[Dimension], trial: optuna.Trial) -> Cell:
    choices: list[tuple[str, object]] = []
    for dimension in dimensions:
        if dimension.span is None:
            label = trial.suggest_categorical(dimension.key, list(dimension.options))
            choices.append((label, dimension.options[label]))
        else:
            span = dimension.span
            value = trial.suggest_float(dimension.key, span.low, span.high, log=span.log)
            choices.append((show_value(value), value))
    return _cell(dimensions, choices)
