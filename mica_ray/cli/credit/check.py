"""`mica credit check RUN`: credit compared with the measured worth of replies, from new continuations."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mica_ray.cli.options import JsonFileOption, TrustOption, new_console, save_json, writing

if TYPE_CHECKING:
    from mica_ray.config.run_config import RunConfig
    from mica_ray.credit_study.agreement import CreditCheck
    from mica_ray.credit_study.check import CheckConfig
    from mica_ray.recordings.recorded_turns import RecordedTurns


def check_credit_command(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder with a checkpoint.")],
    turns: Annotated[
        int, typer.Option("--turns", help="Turns to sample from the dialogues of the run.")
    ] = 16,
    rerolls: Annotated[
        int,
        typer.Option(
            "--rerolls", help="Continuations of each stored reply, and as many other replies in its place."
        ),
    ] = 8,
    gamma: Annotated[float, typer.Option("--gamma", help="Discount of the measured returns.")] = 1.0,
    seed: Annotated[
        int, typer.Option("--seed", help="Seed for the choice of turns and for the continuations.")
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.png", help="Also draw credit against measured worth."),
    ] = None,
    json_file: JsonFileOption = None,
    trust: TrustOption = False,
) -> None:
    """Check whether credit agrees with what replies are worth.

    Samples turns of a run, rolls the stored reply and other replies forward to
    the end of the dialogue, and compares the returns with each estimator's credit.
    """
    from mica_ray.cli.recipes import read_model
    from mica_ray.config.references import ConfigError
    from mica_ray.credit_study.check import CheckConfig
    from mica_ray.recordings.recorded_dialogue import RecordingError
    from mica_ray.recordings.recorded_turns import read_recorded_turns
    from mica_ray.runs.folder import RunFolder

    if not RunFolder.holds_run(folder):
        raise ConfigError(f"{folder}: not a run folder. Name the folder that `mica train` printed.")
    console = new_console()
    config = read_model(str(folder), [])
    try:
        check = CheckConfig(turns=turns, rerolls=rerolls, gamma=gamma, seed=seed)
        stored = read_recorded_turns([folder])
        outcome = _check(config, stored, check, console)
    except (RecordingError, ValueError) as error:
        raise ConfigError(str(error)) from error
    console.print(agreement_table(outcome, check))
    for fact in check_facts(outcome, check, policy_step=_policy_step(config)):
        console.print(fact, highlight=False, markup=False)
    save_json(json_file, {"policy": config.policy, **asdict(check), **check_record(outcome)})
    if out is not None:
        _draw(outcome, out)
        console.print(f"{out}: credit against worth", highlight=False, markup=False, soft_wrap=True)


def _check(config: RunConfig, stored: RecordedTurns, check: CheckConfig, console: Console) -> CreditCheck:
    """Start engine and world in this process, roll forward, and close them."""
    from mica_ray.cli.progress import StageBars
    from mica_ray.launch import run
    from mica_ray.launch.assembly import check_credit_of

    checked = run.check(config, inline=True, learns=False)

    async def play() -> CreditCheck:
        with StageBars(config, console, num_evaluated=2 * check.turns * check.rerolls) as bars:
            async with run.set_up(checked, progress=bars) as parts:
                return await check_credit_of(
                    config, parts, stored, check, bars, policy_step=_policy_step(config)
                )

    return asyncio.run(play())


def _policy_step(config: RunConfig) -> int:
    """Return the step of the checkpoint that `policy` is in: checkpoints/step-000010/learner/policy."""
    return int(Path(config.policy).parents[1].name.removeprefix("step-"))


def agreement_table(outcome: CreditCheck, check: CheckConfig) -> Table:
    """Return a table with one row per estimator."""
    from mica_ray.evaluation.tables import format_interval

    table = Table(
        title=f"Credit against measured worth: {len(outcome.turns)} turns, {check.rerolls} rerolls",
        caption="correlations [95 %, bootstrap over turns]; share of equal signs [95 %, Wilson]",
        box=SIMPLE_HEAD,
    )
    table.add_column("estimator", overflow="fold")
    for heading in ("correlation", "rank", "same sign"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, row in outcome.estimators.items():
        table.add_row(name, *(format_interval(item) for item in (row.pearson, row.rank, row.sign_agreement)))
    return table


def check_facts(outcome: CreditCheck, check: CheckConfig, *, policy_step: int) -> list[str]:
    """Return sentences on what the figures are based on."""
    steps = [turn.step for turn in outcome.turns if turn.step is not None]
    facts = [
        f"Worth: mean return after the stored reply minus that after {check.rerolls} other replies in its "
        f"place, gamma {check.gamma:g}. {outcome.reliability:.0%} of its variance is not noise.",
        f"Policy of step {policy_step}; turns of steps {min(steps, default=0)} to {max(steps, default=0)}.",
    ]
    if outcome.num_failed or outcome.num_dropped:
        facts.append(
            f"Left out: {outcome.num_failed} failed continuations, and {outcome.num_dropped} turns with too "
            "few continuations."
        )
    return facts


def check_record(outcome: CreditCheck) -> dict[str, object]:
    """Return the JSON form: every turn with its returns, and every estimator."""
    return {
        "reliability": outcome.reliability,
        "num_failed": outcome.num_failed,
        "num_dropped": outcome.num_dropped,
        "estimators": {name: asdict(row) for name, row in outcome.estimators.items()},
        "sampled_turns": [
            {**asdict(turn), "difference": turn.difference, "error": turn.error} for turn in outcome.turns
        ],
    }


def _draw(outcome: CreditCheck, out: Path) -> None:
    from mica_ray.files import write_whole
    from mica_ray.reporting.credit.check_figure import draw_credit_check

    with writing("--out", out):
        write_whole(out, draw_credit_check(outcome).png())
