"""Which estimators point along the exact policy gradient, found by enumeration?

Command:   python experiments/credit_correctness.py --out runs/credit_correctness [--peer verl] [--steps N]
Time:      about a minute on one core
Expected:  leave-one-out is unbiased everywhere; forms found in other systems have the flaw in their name.
           Writes credit.json and credit.png, and prints a table, and below it the bias of each estimator.

`--peer verl` passes the same turns as tokens to verl's own functions, if verl can be imported; it is not a
dependency. TRL computes advantages inside its trainer and has no function that takes arrays.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mica_ray.credit.oracle.bench import STEP_DIALOGUES, Contestant, draw_steps, measure
from mica_ray.credit.oracle.bias import GradientBias, compare_gradients
from mica_ray.credit.oracle.cases import all_cases
from mica_ray.credit.oracle.contestants import FOUND_ELSEWHERE, GROUP_MEAN, LEAVE_ONE_OUT, OFFERED
from mica_ray.credit.oracle.gradient import exact_gradient, gradient_estimates, gradient_of_group_mean
from mica_ray.credit.oracle.probes import Properties, ask
from mica_ray.credit.oracle.process import DialogueProcess
from mica_ray.files import write_json

_PROCESSES_PER_TABLE = 3
"""As many as fit in 80 columns."""

LETTERS = dict(zip(Properties.__slots__, "XLTZPOS", strict=True))

HOW_TO_READ = (
    f"Each cell: share of the exact gradient that is kept ('=': the gradient is right within 3 s.e.); "
    f"the angle to it (*: beyond 3 s.e.) and the r.m.s. error of one step of {STEP_DIALOGUES} dialogues, "
    "bias and noise together, at the best scale, |g| = 1; 1.00 teaches nothing. A divided advantage has no "
    "unit, so its share means nothing: its bias is the angle.",
    "Letters: X credit crosses turns, L sees only length, T distinguishes turns of a dialogue, Z keeps "
    "turns of reward 0, P O S ignores padding, order, a constant shift (equal lengths). A dot: no.",
    "Processes: 'survivors' has one choice, so only its sign and noise can be wrong. GAE and anchor states "
    "see the complete state here, which a need state never is: compare the blind critic. With failed "
    "judgements the target is the gradient of what was judged; failures do not depend on what was said.",
)


def main() -> None:
    """Draw, measure, and write one table, one figure and one file."""
    options = _options()
    contestants = [*OFFERED, *FOUND_ELSEWHERE, *_peers(options.peer)]
    processes = all_cases()
    console = Console()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("credit", total=len(processes) * (len(contestants) + 3))
        results: dict[str, dict[str, GradientBias]] = {item.name: {} for item in contestants}
        sizes: list[dict[str, object]] = []
        for process in processes:
            progress.update(task, description=process.name)
            sampled = draw_steps(process, options.steps, group_size=options.group_size, seed=options.seed)
            for item in contestants:
                results[item.name][process.name] = measure(item, sampled)
                progress.advance(task)
            for group_size in (4, 8, 16):
                sizes.append(_at_size(process, group_size, options))
                progress.advance(task)
    properties = {item.name: ask(item.estimator) for item in contestants}
    notes = [*HOW_TO_READ, *_findings(contestants, results)]
    for first in range(0, len(processes), _PROCESSES_PER_TABLE):
        part = processes[first : first + _PROCESSES_PER_TABLE]
        console.print(_table(results, properties, part, options))
    console.print(_size_table(sizes))
    for note in notes:
        console.print(f"- {note}", highlight=False)
    record = _record(options, contestants, results, properties)
    write_json(options.out / "credit.json", {**record, "group_sizes": sizes, "notes": notes})
    _draw(results, [process.name for process in processes], options.out / "credit.png")
    console.print(f"written to {options.out}: credit.json, credit.png", highlight=False, soft_wrap=True)


def _at_size(process: DialogueProcess, group_size: int, options: argparse.Namespace) -> dict[str, object]:
    """Measure leave-one-out and the group mean, and compare the shrinkage of the latter with theory."""
    sampled = draw_steps(process, options.steps, group_size=group_size, seed=options.seed + group_size)
    bias = measure(Contestant("", LEAVE_ONE_OUT), sampled)
    advantages = GROUP_MEAN(sampled.dialogues.turns(process.features))
    estimates = gradient_estimates(process, sampled.dialogues, advantages, num_units=options.steps)
    predicted = gradient_of_group_mean(process, group_size=group_size)
    exact = sampled.exact
    return {
        "process": process.name,
        "group_size": group_size,
        "leave_one_out": asdict(bias),
        "mean_kept": compare_gradients(estimates, exact).kept,
        "mean_kept_error": compare_gradients(estimates, exact).kept_error,
        "mean_kept_predicted": float((predicted * exact).sum() / (exact**2).sum()),
        "mean_z_against_prediction": compare_gradients(estimates, predicted).z,
    }


def _angle(bias: GradientBias) -> float:
    """Return the angle between expectation and gradient in degrees, NaN if both are within noise."""
    is_something = abs(bias.kept) > 3 * bias.kept_error or bias.direction_z > 3
    return math.degrees(math.acos(min(1.0, max(-1.0, bias.cosine)))) if is_something else math.nan


def _cell(bias: GradientBias) -> str:
    angle = _angle(bias)
    kept = f"x{bias.kept:.2f}{'' if bias.is_biased else ' ='}"
    if math.isnan(angle):
        return f"{kept}\n[red]no signal[/]"
    error = f" {bias.error:.2f}"
    mark = "*" if bias.direction_z > 3 or angle > 90 else ""
    colour = "red" if angle > 45 else "yellow" if mark and angle > 5 else "green"
    return f"{kept}\n[{colour}]{angle:.0f}°{mark}[/]{error}"


def _table(
    results: Mapping[str, Mapping[str, GradientBias]],
    properties: Mapping[str, Properties],
    processes: Sequence[DialogueProcess],
    options: argparse.Namespace,
) -> Table:
    table = Table(
        title=f"Credit against exact gradients, {options.steps} steps, groups of {options.group_size}"
    )
    table.add_column("estimator", overflow="fold")
    table.add_column("letters", no_wrap=True)
    for process in processes:
        table.add_column(process.name, justify="right")
    for name, row in results.items():
        answers = asdict(properties[name])
        asked = "".join(letter if answers[key] else "." for key, letter in LETTERS.items())
        is_last_offered = name in (OFFERED[-1].name, FOUND_ELSEWHERE[-1].name)
        table.add_row(
            name, asked, *(_cell(row[process.name]) for process in processes), end_section=is_last_offered
        )
    return table


def _size_table(sizes: Sequence[Mapping[str, object]]) -> Table:
    table = Table(title="Leave-one-out, and what the group mean keeps against E[1 - 1/n_t]")
    for column in ("process", "group", "leave-one-out", "z", "group mean", "predicted", "z"):
        table.add_column(column, justify="left" if column == "process" else "right")
    for row in sizes:
        bias = row["leave_one_out"]
        assert isinstance(bias, Mapping)
        table.add_row(
            str(row["process"]),
            str(row["group_size"]),
            f"{bias['kept']:.3f} ± {bias['kept_error']:.3f}",
            f"{bias['z']:.1f}",
            f"{row['mean_kept']:.3f} ± {row['mean_kept_error']:.3f}",
            f"{row['mean_kept_predicted']:.3f}",
            f"{row['mean_z_against_prediction']:.1f}",
        )
    return table


def _findings(
    contestants: Sequence[Contestant], results: Mapping[str, Mapping[str, GradientBias]]
) -> list[str]:
    """Return one sentence per estimator with the weaknesses that the table shows."""
    findings: list[str] = []
    for item in contestants:
        row = results[item.name]
        right = [name for name, bias in row.items() if not bias.is_biased]
        silent = [name for name, bias in row.items() if math.isnan(_angle(bias))]
        wrong = {name: _angle(bias) for name, bias in row.items() if _angle(bias) > 90}
        turned = {
            name: _angle(bias)
            for name, bias in row.items()
            if bias.direction_z > 3 and 5 < _angle(bias) <= 90
        }
        parts = [f"unbiased on {len(right)} of {len(row)}"]
        parts += [f"no signal on {', '.join(silent)}"] if silent else []
        for text, angles in (("points AGAINST the gradient on", wrong), ("turned on", turned)):
            listed = ", ".join(f"{name} ({angle:.0f}°)" for name, angle in angles.items())
            parts += [f"{text} {listed}"] if angles else []
        errors = [bias.error for bias in row.values()]
        parts += [f"error of a step {min(errors):.2f} to {max(errors):.2f}, median {np.median(errors):.2f}"]
        findings.append(f"{item.name.strip()}: {'; '.join(parts)}.")
    return findings


def _record(
    options: argparse.Namespace,
    contestants: Sequence[Contestant],
    results: Mapping[str, Mapping[str, GradientBias]],
    properties: Mapping[str, Properties],
) -> dict[str, object]:
    return {
        "steps": options.steps,
        "step_dialogues": STEP_DIALOGUES,
        "group_size": options.group_size,
        "seed": options.seed,
        "processes": {
            process.name: {
                "question": process.question,
                "exact_gradient": exact_gradient(process).tolist(),
                "exact_gradient_without_failures": exact_gradient(process, judged=False).tolist(),
            }
            for process in all_cases()
        },
        "estimators": {
            item.name: {
                "estimator": repr(item.estimator),
                "imputed": item.imputed,
                "is_blind": item.is_blind,
                "properties": asdict(properties[item.name]),
                "processes": {
                    name: {**asdict(bias), "angle_degrees": _angle(bias), "error": bias.error}
                    for name, bias in results[item.name].items()
                },
            }
            for item in contestants
        },
    }


def _draw(results: Mapping[str, Mapping[str, GradientBias]], processes: Sequence[str], path: Path) -> None:
    """Draw two maps, estimators by processes: the angle to the exact gradient, and the error of a step."""
    from matplotlib.figure import Figure

    names = list(results)
    angles = np.array([[_angle(results[name][process]) for process in processes] for name in names])
    errors = np.array([[results[name][process].error for process in processes] for name in names])
    figure = Figure(figsize=(12, 0.32 * len(names) + 2), layout="constrained")
    panels = (
        (angles, "angle to the exact gradient, degrees", 90.0, "{:.0f}"),
        (errors, f"error of a step of {STEP_DIALOGUES} dialogues at the best scale", 1.2, "{:.2f}"),
    )
    for axes, (values, title, top, form) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
        image = axes.imshow(values, vmin=0, vmax=top, cmap="RdYlGn_r", aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            axes.text(
                j, i, "none" if np.isnan(value) else form.format(value), ha="center", va="center", size=8
            )
        axes.set_xticks(range(len(processes)), processes, rotation=30, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set_title(title)
        figure.colorbar(image, ax=axes, shrink=0.5)
    figure.savefig(path, dpi=150)


def _peers(names: Sequence[str]) -> list[Contestant]:
    if not names:
        return []
    from mica_ray.credit_study.peers import verl_contestants

    return verl_contestants()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare every credit estimator with exact gradients.")
    parser.add_argument("--out", type=Path, default=Path("runs/credit_correctness"))
    parser.add_argument("--peer", action="append", default=[], choices=["verl"])
    parser.add_argument(
        "--steps", type=int, default=1000, help="steps of 64 dialogues per process, at least 64"
    )
    parser.add_argument("--group-size", type=int, default=8, choices=[2, 4, 8, 16, 32])
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        print(f"credit_correctness: {error}", file=sys.stderr)
        sys.exit(2)
