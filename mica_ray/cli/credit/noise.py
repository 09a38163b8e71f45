"""`mica credit noise`: what the noise of a judge leaves of each estimator's advantages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from mica_ray.cli.options import JsonFileOption, new_console, save_json, writing

if TYPE_CHECKING:
    from rich.console import Console

    from mica_ray.credit import CreditEstimator
    from mica_ray.credit_study.noise.judge_noise import JudgeNoise
    from mica_ray.credit_study.noise.study import NoiseEffect
    from mica_ray.reporting.drawing.text_table import TextTable
    from mica_ray.rewards import RewardKind

DEFAULT_ALPHAS = (0.0, 0.5, 1.0)
DEFAULT_OTHERS = ("return-to-go", "grpo", "rloo", "reinforce++", "reinforce++-idr", "reinforce++-baseline")


def predict_noise_command(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN_OR_FILE", help="Run folders, our own dialogues.jsonl, or published EMPA runs."
        ),
    ],
    noise: Annotated[
        str | None,
        typer.Option(
            "--noise",
            metavar="SD",
            help="Standard deviation of the judge's error in v_t, points: one number, or three for C,A,P.",
        ),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option("--card", metavar="FILE.json", help="Take it from a card of `mica judges card`."),
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", help="The judge of the card, if it describes several.")
    ] = None,
    neighbour: Annotated[
        float, typer.Option("--neighbour", help="Probability that a level moves to a neighbouring one.")
    ] = 0.0,
    error_rate: Annotated[
        float, typer.Option("--error-rate", help="Probability that a level is drawn at random.")
    ] = 0.0,
    group_sizes: Annotated[
        list[int] | None,
        typer.Option("--group-size", help="N, several times; default: the recorded groups."),
    ] = None,
    alphas: Annotated[
        list[float] | None, typer.Option("--alpha", help="Weight of MICA's turn term, several times.")
    ] = None,
    gamma: Annotated[float, typer.Option("--gamma", help="Discount of the returns.")] = 0.85,
    estimators: Annotated[
        list[str] | None,
        typer.Option(
            "--estimator", metavar="NAME", help="Beside MICA, several times; default: all baselines."
        ),
    ] = None,
    reward: Annotated[str, typer.Option("--reward", help="`idr`, `adr`, `sum` or `potential`.")] = "idr",
    draws: Annotated[
        int, typer.Option("--draws", help="Also add drawn noise so often, and measure. 0: only predict.")
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the draws.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.png", help="Also draw the correlations.")
    ] = None,
    json_file: JsonFileOption = None,
) -> None:
    """Predict how noise of the judge changes advantages.

    Prints the correlation of advantages under a noisy judge with those without
    the noise. The recorded judgements are taken as the truth: if they are noisy
    themselves, their spread is too large and the prediction too high.
    """
    from mica_ray.checks import one_of, within
    from mica_ray.cli.progress import new_bars
    from mica_ray.config.references import ConfigError
    from mica_ray.credit_study.noise.paths import judged_paths
    from mica_ray.credit_study.noise.study import effect_record, study_noise
    from mica_ray.recordings.recorded_dialogue import RecordingError
    from mica_ray.recordings.recorded_turns import read_recorded_turns
    from mica_ray.rewards import RewardKind, Rewards

    console = new_console()
    try:
        within(0, 1, **{"--gamma": gamma})
        one_of(get_args(RewardKind), **{"--reward": reward})
        error = _noise(noise, card, judge, neighbour=neighbour, error_rate=error_rate)
        rewards = Rewards(
            kind=cast("RewardKind", reward), gamma=(gamma or None) if reward == "potential" else None
        )
        chosen = _estimators(alphas or DEFAULT_ALPHAS, estimators or DEFAULT_OTHERS, gamma=gamma)
        paths = judged_paths(read_recorded_turns(files))
        sizes = tuple(dict.fromkeys(group_sizes or ()))
        with new_bars(new_console(stderr=True), transient=True) as bars:
            task = bars.add_task("predict", total=max(1, len(sizes)) * (len(chosen) + draws))
            effects = study_noise(
                paths,
                chosen,
                error,
                rewards=rewards,
                group_sizes=sizes,
                draws=draws,
                seed=seed,
                progress=lambda: bars.advance(task),
            )
    except (RecordingError, ValueError) as problem:
        raise ConfigError(str(problem)) from problem
    for effect in effects:
        print_effect(effect, console)
    save_json(json_file, {"reward": reward, "gamma": gamma, "seed": seed, **effect_record(effects)})
    if out is not None:
        _draw(effects, out)
        console.print(f"{out}: correlations", highlight=False, markup=False, soft_wrap=True)


def print_effect(effect: NoiseEffect, console: Console) -> None:
    """Print the table of one group size, what it shows, and the size of the noise."""
    effect_table(effect).show(console)
    per_axis = ", ".join(f"{sd:.2f}" for sd in effect.noise_sd)
    facts = [
        f"Over {effect.num_groups} groups: advantages under the noisy judge with those without the noise.",
        f"Noise of v_t: SD {per_axis} points (C, A, P); of a turn's reward: {effect.reward_sd:.2f}, the "
        "value for noise_gate.reward_sd.",
        *([f"{effect.num_left_out} dialogues fill no group."] if effect.num_left_out else []),
    ]
    for fact in facts:
        console.print(f"{fact}\n", style="dim", highlight=False, markup=False)


def effect_table(effect: NoiseEffect) -> TextTable:
    """Return a table with one row per estimator."""
    from mica_ray.credit_study.tables import format_number
    from mica_ray.reporting.drawing.text_table import TextTable

    is_measured = any(one.measured is not None for one in effect.estimators.values())
    rows = [
        (
            name,
            format_number(one.predicted, 3),
            *([f"{one.measured.mean:.3f} ± {one.measured.error:.3f}"] if one.measured is not None else []),
        )
        for name, one in effect.estimators.items()
    ]
    size = "as recorded" if effect.group_size is None else f"N = {effect.group_size}"
    return TextTable(
        f"Correlation, {size}",
        ("estimator", "predicted", *(["measured"] if is_measured else [])),
        tuple(rows),
    )


def read_card_noise(path: Path, judge: str | None) -> JudgeNoise:
    """Return the noise of a judge from a card of `mica judges card`: its covariance, else its noise_sd.

    Raises:
        ConfigError: the file is no card, describes several judges and none is chosen, or has no noise.
    """
    from mica_ray.config.references import ConfigError
    from mica_ray.credit_study.noise.judge_noise import JudgeNoise, gaussian
    from mica_ray.files import JsonFileError, read_json_object
    from mica_ray.types import AXES

    try:
        fields: Mapping[str, object] = read_json_object(path)
    except JsonFileError as error:
        raise ConfigError(str(error)) from error
    judges = fields.get("judges")
    if isinstance(judges, Mapping) and judges:
        if judge is None and len(judges) > 1:
            raise ConfigError(f"{path} describes {', '.join(judges)}. Choose one with --judge.")
        name = judge or next(iter(judges))
        if name not in judges:
            raise ConfigError(f"{path} describes {', '.join(judges)}, not {name}. Choose one with --judge.")
        fields = judges[name] if isinstance(judges[name], Mapping) else {}
    covariance = fields.get("noise_covariance")
    rows = [_numbers(row) for row in covariance] if isinstance(covariance, list) else []
    if [len(row) for row in rows] == [len(AXES)] * len(AXES):
        return JudgeNoise(tuple(map(tuple, rows)))
    found = fields.get("noise_sd")
    sds = _numbers([found.get(axis) for axis in AXES]) if isinstance(found, Mapping) else []
    if len(sds) != len(AXES):
        raise ConfigError(
            f"{path} has no noise_sd with a number for {', '.join(AXES)}. Judge with --repeats 2 or more."
        )
    return gaussian((sds[0], sds[1], sds[2]))


def _numbers(values: object) -> list[float]:
    """Return a list of numbers; nothing if it is something else."""
    numbers = [
        float(value)
        for value in (values if isinstance(values, list) else [])
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return numbers if isinstance(values, list) and len(numbers) == len(values) else []


def _noise(
    noise: str | None, card: Path | None, judge: str | None, *, neighbour: float, error_rate: float
) -> JudgeNoise:
    """Return the noise that the options describe.

    Raises:
        ConfigError: none of the options is given, two contradict each other, or a value is invalid.
    """
    from mica_ray.config.references import ConfigError
    from mica_ray.credit_study.noise.judge_noise import confused, gaussian

    if noise is not None and card is not None:
        raise ConfigError("--noise and --card both set the noise. Give one of them.")
    if noise is None and card is None and not neighbour and not error_rate:
        raise ConfigError("No noise given. Use --noise SD, --card FILE, --neighbour P or --error-rate P.")
    base = None if card is None else read_card_noise(card, judge)
    if noise is not None:
        try:
            parts = [float(part) for part in noise.split(",")]
        except ValueError:
            parts = []
        if len(parts) not in (1, 3):
            raise ConfigError(f"--noise must be one number, or three as C,A,P, got {noise}.")
        base = gaussian((parts[0], parts[0], parts[0]) if len(parts) == 1 else (parts[0], parts[1], parts[2]))
    return confused(neighbour=neighbour, anywhere=error_rate, noise=base)


def _estimators(
    alphas: Sequence[float], others: Sequence[str], *, gamma: float
) -> dict[str, CreditEstimator]:
    """Return MICA with every alpha, and the other estimators, by name."""
    from mica_ray.cli.credit.estimators import Mixing, named_estimators
    from mica_ray.credit import Mica

    mica = Mica(gamma=gamma)
    mixes = {f"mica, alpha {alpha:g}": replace(mica, alpha=alpha) for alpha in alphas}
    return {**mixes, **named_estimators(others, Mixing(mica.alpha, gamma, "group"))}


def _draw(effects: Sequence[NoiseEffect], out: Path) -> None:
    from mica_ray.files import write_whole
    from mica_ray.reporting.credit.noise_figure import draw_noise

    with writing("--out", out):
        write_whole(out, draw_noise(effects).png())
