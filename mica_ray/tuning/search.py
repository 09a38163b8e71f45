"""Which cells of a space are tried: all, drawn ones, or those that Optuna proposes. Trains nothing."""

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
"""Gives the cells of a round and is sent their metric by name, NaN where there is none."""


def rounds(sweep: Sweep) -> Rounds:
    """Propose cells round by round; a pure function of the sweep and of what is sent."""
    match sweep.search:
        case Grid():
            yield _grid(sweep.dimensions)
        case Random() as search:
            yield _drawn(sweep.dimensions, search)
        case Optuna() as search:
            yield from _proposed(sweep.dimensions, search, sweep.mode)


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


def _drawn(dimensions: Sequence[Dimension], search: Random) -> tuple[Cell, ...]:
    """Draw every cell from a generator of its own: more cells leave the first ones as they are."""
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


def _proposed(dimensions: Sequence[Dimension], search: Optuna, mode: str) -> Rounds:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # A proposal of a round takes those before it for bad ones, so that they are not near each other.
        sampler = optuna.samplers.TPESampler(
            seed=search.seed, constant_liar=True, n_startup_trials=search.round_size
        )
    study = optuna.create_study(sampler=sampler, direction="maximize" if mode == "max" else "minimize")
    for first in range(0, search.num_cells, search.round_size):
        count = min(search.round_size, search.num_cells - first)
        asked = [study.ask() for _ in range(count)]
        cells = [_suggested(dimensions, trial) for trial in asked]
        results = yield tuple({cell.name: cell for cell in cells}.values())
        for trial, cell in zip(asked, cells, strict=True):
            value = results.get(cell.name, math.nan)
            if math.isnan(value):
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, value)


def _suggested(dimensions: Sequence[Dimension], trial: optuna.Trial) -> Cell:
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
