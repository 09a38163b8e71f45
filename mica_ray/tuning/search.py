"""Which cells of a space are tried: all, drawn ones, or those that Optuna proposes. Trains nothing."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mica_ray.tuning.space import Axis, Cell, show_value
from mica_ray.tuning.sweep import Grid, Optuna, Random, Sweep

if TYPE_CHECKING:
    import optuna

Rounds = Generator[tuple[Cell, ...], Mapping[str, float], None]
"""Gives the cells of a round and is sent their metric by name, NaN where there is none."""


def rounds(sweep: Sweep) -> Rounds:
    """Propose cells round by round; a pure function of the sweep and of what is sent."""
    match sweep.search:
        case Grid():
            yield _grid(sweep.axes)
        case Random() as search:
            yield _drawn(sweep.axes, search)
        case Optuna() as search:
            yield from _proposed(sweep.axes, search, sweep.mode)


def _cell(axes: Sequence[Axis], choices: Sequence[tuple[str, object]]) -> Cell:
    pairs = list(zip(axes, choices, strict=True))
    return Cell(
        labels={axis.key: label for axis, (label, _) in pairs},
        values={axis.key: value for axis, (_, value) in pairs},
    )


def _grid(axes: Sequence[Axis]) -> tuple[Cell, ...]:
    return tuple(
        _cell(axes, choices) for choices in itertools.product(*(axis.options.items() for axis in axes))
    )


def _drawn(axes: Sequence[Axis], search: Random) -> tuple[Cell, ...]:
    """Draw every cell from a generator of its own: more cells leave the first ones as they are."""
    cells: dict[str, Cell] = {}
    for number in range(search.num_cells):
        generator = np.random.default_rng([search.seed, number])
        choices: list[tuple[str, object]] = []
        for axis in axes:
            if axis.span is None:
                labels = list(axis.options)
                label = labels[int(generator.integers(len(labels)))]
                choices.append((label, axis.options[label]))
            else:
                value = axis.span.at(float(generator.random()))
                choices.append((show_value(value), value))
        cell = _cell(axes, choices)
        cells.setdefault(cell.name, cell)
    return tuple(cells.values())


def _proposed(axes: Sequence[Axis], search: Optuna, mode: str) -> Rounds:
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
        cells = [_suggested(axes, trial) for trial in asked]
        results = yield tuple({cell.name: cell for cell in cells}.values())
        for trial, cell in zip(asked, cells, strict=True):
            value = results.get(cell.name, math.nan)
            if math.isnan(value):
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, value)


def _suggested(axes: Sequence[Axis], trial: optuna.Trial) -> Cell:
    choices: list[tuple[str, object]] = []
    for axis in axes:
        if axis.span is None:
            label = trial.suggest_categorical(axis.key, list(axis.options))
            choices.append((label, axis.options[label]))
        else:
            span = axis.span
            value = trial.suggest_float(axis.key, span.low, span.high, log=span.log)
            choices.append((show_value(value), value))
    return _cell(axes, choices)
