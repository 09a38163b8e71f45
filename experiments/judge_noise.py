"""Under a noisy judge, where do the noise gate and repeated judgements help, and where do they hurt?

Command:   python experiments/judge_noise.py --out runs/judge_noise [--seeds N] [--steps N]
Time:      about four minutes on one core
Expected:  a gate helps divided estimators a little where most scenarios hardly matter and the noise is small,
           and hurts elsewhere; repeats help nearly everywhere, most safely for all turns. Writes
           judge_noise.json and prints the change of a step's error (*: its 95 % interval excludes 0).

Small processes with known gradients (mica_ray/credit/oracle), with noise of the judge on every reward. The
gate knows its size. Repeats: the judgement is averaged over two for every turn, or over three for half of
the turns, chosen at random or nearest to a tie; all three double the judge's cost.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from mica_ray.credit import CreditEstimator, Grpo, Mica, ReturnToGo, Rloo
from mica_ray.credit.noise_gate import Gated, GateScope, NoiseGate, nearest_ties
from mica_ray.credit.oracle.bench import STEP_DIALOGUES, Contestant, Sampled, draw_steps, measure
from mica_ray.credit.oracle.cases import delayed_effect, mixed_stakes, variable_lengths
from mica_ray.credit.oracle.process import DialogueProcess
from mica_ray.files import write_json
from mica_ray.reporting.drawing.text_table import TextTable
from mica_ray.statistics import Interval, bootstrap_mean

NOISES = (0.5, 1.0, 2.0)
"""Standard deviations of the judge's error; the rewards that matter are about 1."""

GROUP_SIZES = (4, 8)

ESTIMATORS: Mapping[str, tuple[CreditEstimator, GateScope]] = {
    "MICA": (Mica(), "turn"),
    "turn only": (Mica(alpha=1), "turn"),
    "group only": (Mica(alpha=0), "group"),
    "return-to-go": (ReturnToGo(lone_baseline="none"), "turn"),
    "GRPO": (Grpo(), "dialogue"),
    "RLOO": (Rloo(), "dialogue"),
}
"""Each with the scope of a gate that compares what the estimator compares."""

GATES = ("gate", "shrink", "by dialogue")
REPEATS = ("all twice", "near ties", "random half")


@dataclass(frozen=True, slots=True)
class Cell:
    """One estimator at one noise and group size on one process, over seeds."""

    process: str
    group_size: int
    noise: float
    estimator: str
    plain: Interval
    """Root mean square error of a step's gradient at the best scale, as a share of the exact gradient."""
    changes: Mapping[str, Interval]
    """By remedy: its error minus the plain one, paired by seed."""


def main() -> None:
    """Measure all cells, and write the tables and one file."""
    options = _options()
    console = Console()
    processes = (mixed_stakes(), variable_lengths(), delayed_effect())
    cells: list[Cell] = []
    settings = [(process, size, noise) for process in processes for size in GROUP_SIZES for noise in NOISES]
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("noise", total=len(settings) * options.seeds)
        for process, size, noise in settings:
            rows: list[Mapping[str, Mapping[str, float]]] = []
            for seed in range(options.seeds):
                rows.append(errors(process, size, noise, num_steps=options.steps, seed=seed))
                progress.advance(task)
            cells += [_cell(process.name, size, noise, name, rows) for name in ESTIMATORS]
    for process in processes:
        for size in GROUP_SIZES:
            _table([c for c in cells if (c.process, c.group_size) == (process.name, size)]).show(console)
    record = {"steps": options.steps, "seeds": options.seeds, "cells": [asdict(cell) for cell in cells]}
    write_json(options.out / "judge_noise.json", record)
    console.print(f"written to {options.out}: judge_noise.json", highlight=False, soft_wrap=True)


def errors(
    process: DialogueProcess, group_size: int, noise: float, *, num_steps: int, seed: int
) -> dict[str, dict[str, float]]:
    """Return the error of a step's gradient by estimator and remedy; "plain" is none.

    Args:
        process: the process; its own noise is not the judge's.
        group_size: N.
        noise: standard deviation of the judge's error in a reward.
        num_steps: steps of 64 dialogues.
        seed: of dialogues and noise.
    """
    sampled = draw_steps(process, num_steps, group_size=group_size, seed=seed)
    generator = np.random.default_rng((seed, 1))
    judged = noise * generator.standard_normal((3, *sampled.dialogues.rewards.shape))
    once, twice, thrice = (_with(sampled, judged[:count].mean(axis=0)) for count in (1, 2, 3))
    random = _half(generator.random(judged[0].shape), sampled)
    found: dict[str, dict[str, float]] = {}
    for name, (estimator, scope) in ESTIMATORS.items():
        gate = NoiseGate(noise, scope=scope)
        seen = once.dialogues.turns(process.features)
        near = _half(gate.squared_ratios(seen, gamma=float(getattr(estimator, "gamma", 1.0))), sampled)
        tried = {
            "plain": (estimator, once),
            "gate": (Gated(estimator, gate), once),
            "shrink": (Gated(estimator, replace(gate, mode="shrink")), once),
            "by dialogue": (Gated(estimator, replace(gate, scope="dialogue")), once),
            "all twice": (estimator, twice),
            "near ties": (estimator, _mixed(near, thrice, once)),
            "random half": (estimator, _mixed(random, thrice, once)),
        }
        found[name] = {
            remedy: measure(Contestant(name, one), rated).error for remedy, (one, rated) in tried.items()
        }
    return found


def _with(sampled: Sampled, error: np.ndarray) -> Sampled:
    """Return the same dialogues with an error of the judge added to the rewards."""
    dialogues = sampled.dialogues
    rewards = np.where(dialogues.played, dialogues.rewards + error, 0.0)
    return replace(sampled, dialogues=replace(dialogues, rewards=rewards))


def _mixed(chosen: np.ndarray, these: Sampled, others: Sampled) -> Sampled:
    """Return the same dialogues with the rewards of `these` where chosen, and of `others` elsewhere."""
    rewards = np.where(chosen, these.dialogues.rewards, others.dialogues.rewards)
    return replace(these, dialogues=replace(these.dialogues, rewards=rewards))


def _half(ratios: np.ndarray, sampled: Sampled) -> np.ndarray:
    """Choose half of the judged turns of every step, the smallest ratios first: [B, T] bool."""
    judged = sampled.dialogues.judged
    # Turns without siblings come last, so that every way of choosing repeats equally many judgements.
    finite = np.where(judged, np.minimum(ratios, 1e9), np.inf)
    steps = finite.reshape(-1, STEP_DIALOGUES, finite.shape[1])
    return np.concatenate([nearest_ties(step, fraction=0.5) for step in steps])


def _cell(
    process: str, size: int, noise: float, name: str, rows: Sequence[Mapping[str, Mapping[str, float]]]
) -> Cell:
    plain = np.array([row[name]["plain"] for row in rows])
    changes = {
        remedy: bootstrap_mean(np.array([row[name][remedy] for row in rows]) - plain, seed=0)
        for remedy in (*GATES, *REPEATS)
    }
    return Cell(process, size, noise, name, bootstrap_mean(plain, seed=0), changes)


def _table(cells: Sequence[Cell]) -> TextTable:
    rows = tuple(
        (
            f"{cell.estimator}, {cell.noise:g}",
            f"{cell.plain.estimate:.2f}",
            *map(_marked, cell.changes.values()),
        )
        for cell in cells
    )
    first = cells[0]
    title = f"{first.process}, N = {first.group_size}: error of a step, and its change by each remedy"
    return TextTable(title, ("estimator, SD", "plain", *GATES, *REPEATS), rows)


def _marked(change: Interval) -> str:
    """Return a change with a star if its 95 % interval over seeds excludes 0."""
    return f"{change.estimate:+.2f}{'*' if change.low > 0 or change.high < 0 else ''}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Noise of the judge, the gate, and repeated judgements.")
    parser.add_argument("--out", type=Path, default=Path("runs/judge_noise"))
    parser.add_argument("--steps", type=int, default=256, help="steps of 64 dialogues, at least 64")
    parser.add_argument("--seeds", type=int, default=8)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        print(f"judge_noise: {error}", file=sys.stderr)
        sys.exit(2)
