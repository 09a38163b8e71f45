"""`mica credit`: compare estimators on stored dialogues; `check` adds rollouts, `noise` a noisy judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer
from rich.console import Console

from mica_ray.cli.credit.check import check_credit_command
from mica_ray.cli.credit.noise import predict_noise_command
from mica_ray.cli.options import JsonFileOption, examples, group_with_default, new_console, save_json, writing

if TYPE_CHECKING:
    from mica_ray.credit.mica import Scope
    from mica_ray.credit_study.comparison import CreditComparison
    from mica_ray.recordings.recorded_turns import Grouping, RecordedTurns
    from mica_ray.rewards import RewardKind, Rewards

RECORDED = "recorded"
"""The value of `--reward` that keeps the recorded rewards, and computes IDR where a file has none."""

MAX_TURNS = 15
"""Rows of a table by turn on the terminal; the page and the JSON file have all."""

DEFAULT = "compare"
"""The command behind `mica credit FILES`."""

credit_app = typer.Typer(
    cls=group_with_default(DEFAULT),
    name="credit",
    help="Compare credit estimators on stored dialogues, or check credit against new rollouts.\n\n"
    "`mica credit FILES` is short for `mica credit compare FILES`.",
    epilog=examples(
        "mica credit runs/a --estimator mica --estimator grpo --out credit.html",
        "mica credit check runs/a --turns 16 --rerolls 8",
        "mica credit noise runs/a --noise 0.8",
    ),
)
credit_app.command("check", epilog=examples("mica credit check runs/a --turns 16 --out check.png"))(
    check_credit_command
)
credit_app.command("noise", epilog=examples("mica credit noise runs/a --noise 0.8 --group-size 4 --draws 9"))(
    predict_noise_command
)


@credit_app.command(DEFAULT, epilog=examples("mica credit compare runs/a --gamma 0.9 --out credit.html"))
def compare_credit_command(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN_OR_FILE", help="Run folders, our own dialogues.jsonl, or published EMPA runs."
        ),
    ],
    estimators: Annotated[
        list[str] | None,
        typer.Option(
            "--estimator",
            metavar="NAME",
            help="A short name such as mica, grpo or rloo, or module:NAME. Can be given several times.",
        ),
    ] = None,
    alpha: Annotated[
        float, typer.Option("--alpha", help="Weight of the turn term in estimators that mix two terms.")
    ] = 0.5,
    gamma: Annotated[
        float, typer.Option("--gamma", help="Discount of the returns in estimators that have one.")
    ] = 0.85,
    scope: Annotated[
        str,
        typer.Option("--scope", help="Turns that the group term compares: those of the `group` or `batch`."),
    ] = "group",
    reward: Annotated[
        str,
        typer.Option(
            "--reward",
            help="`recorded` (IDR where a file has no rewards), `idr`, `adr`, `sum` or `potential`.",
        ),
    ] = RECORDED,
    group_by: Annotated[
        str | None,
        typer.Option(
            "--group-by",
            help="What makes dialogues a group: `recorded`, `case` or `model`. Default: recorded, or case if "
            "the files record no groups.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.html", help="Also write a page; it opens offline."),
    ] = None,
    json_file: JsonFileOption = None,
) -> None:
    """Compute the credit of stored dialogues with several estimators, side by side."""
    from mica_ray.checks import one_of, within
    from mica_ray.cli.credit.estimators import Mixing, named_estimators
    from mica_ray.config.references import ConfigError
    from mica_ray.credit.mica import Scope
    from mica_ray.credit_study.comparison import compare_credit
    from mica_ray.credit_study.tables import credit_record
    from mica_ray.recordings.recorded_dialogue import RecordingError
    from mica_ray.recordings.recorded_turns import Grouping, read_recorded_turns
    from mica_ray.rewards import RewardKind

    try:
        within(0, 1, **{"--alpha": alpha, "--gamma": gamma})
        one_of(get_args(Scope), **{"--scope": scope})
        one_of((RECORDED, *get_args(RewardKind)), **{"--reward": reward})
        one_of((None, *get_args(Grouping)), **{"--group-by": group_by})
        chosen = named_estimators(estimators or (), Mixing(alpha, gamma, cast("Scope", scope)))
        rewards = _rewards(reward, gamma=gamma)
        stored = read_recorded_turns(files, rewards=rewards, group_by=cast("Grouping | None", group_by))
        comparison = compare_credit(
            stored.turns, chosen, batch=stored.batch, gamma=gamma, reply_lengths=stored.reply_lengths[0]
        )
    except (RecordingError, ValueError) as error:
        raise ConfigError(str(error)) from error
    earned = "as recorded, else idr" if rewards is None else reward
    settings = f"Reward: {earned}; gamma {gamma:g}, alpha {alpha:g}, scope {scope}."
    console = new_console()
    print_credit(stored, comparison, settings, console)
    save_json(json_file, {"settings": settings, **credit_record(stored, comparison)})
    if out is not None:
        _write_page(stored, comparison, settings, gamma=gamma, out=out)
        console.print(f"{out}: opens offline", highlight=False, markup=False, soft_wrap=True)


def print_credit(
    stored: RecordedTurns, comparison: CreditComparison, settings: str, console: Console
) -> None:
    """Print what was credited, and the tables; of a table by turn only the first rows."""
    from mica_ray.credit_study.tables import credit_facts, credit_tables
    from mica_ray.reporting.drawing.text_table import TextTable

    for fact in (*credit_facts(stored, comparison), settings):
        console.print(fact, highlight=False, markup=False)
    for table in credit_tables(stored, comparison):
        rows = table.rows[:MAX_TURNS] if table.heads[0] == "turn" else table.rows
        left = len(table.rows) - len(rows)
        note = f"{table.note}; {left} more turns with --out or --json" if left else table.note
        TextTable(table.title, table.heads, rows).show(console)
        console.print(f"{note}.\n", style="dim", highlight=False, markup=False)


def _rewards(reward: str, *, gamma: float) -> Rewards | None:
    """Return the reward function to compute, None to keep the recorded rewards.

    Raises:
        ConfigError: the potential form with this gamma.
    """
    from mica_ray.config.references import ConfigError
    from mica_ray.rewards import Rewards

    if reward == RECORDED:
        return None
    try:
        # Only the potential form uses a discount.
        return Rewards(kind=cast("RewardKind", reward), gamma=gamma if reward == "potential" else 1.0)
    except ValueError as error:
        raise ConfigError(f"--reward {reward}: {error}") from error


def _write_page(
    stored: RecordedTurns, comparison: CreditComparison, settings: str, *, gamma: float, out: Path
) -> None:
    from mica_ray.files import write_whole
    from mica_ray.reporting.credit.page import credit_page

    with writing("--out", out):
        write_whole(out, credit_page(stored, comparison, settings=settings, gamma=gamma))
