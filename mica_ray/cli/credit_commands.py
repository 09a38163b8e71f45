"""The commands `mica credit ...` and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from mica_ray.cli.default_command import COMPARE_COMMAND, group_with_default
from mica_ray.cli.options import JsonFile

credit = typer.Typer(
    cls=group_with_default(COMPARE_COMMAND),
    name="credit",
    help="Credit of stored dialogues: `mica credit FILES` is `mica credit compare FILES`.",
)


@credit.command(COMPARE_COMMAND)
def compare_credit(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN_OR_FILES...", help="Run folders, our own dialogues.jsonl, published EMPA runs."
        ),
    ],
    estimators: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--estimator", metavar="NAME", help="A name or module:NAME; repeatable. Default: a handful."
        ),
    ] = None,
    alpha: Annotated[
        float, typer.Option("--alpha", help="Weight of the turn term where two are mixed.")
    ] = 0.5,
    gamma: Annotated[
        float, typer.Option("--gamma", help="Discount of the returns, where they have one.")
    ] = 0.85,
    scope: Annotated[
        str, typer.Option("--scope", help="Whose immediate rewards the group term compares: group or batch.")
    ] = "group",
    reward: Annotated[
        str, typer.Option("--reward", help="recorded (idr where none is), idr, adr, sum or potential.")
    ] = "recorded",
    group_by: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--group-by", help="What makes a group: recorded, case or model. Default: as recorded, else case."
        ),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", metavar="FILE.html", help="Write a page that opens offline."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Credit stored dialogues by several estimators, side by side, without playing any."""
    from mica_ray.cli.credit import run_credit

    run_credit(
        files,
        estimators=estimators or (),
        alpha=alpha,
        gamma=gamma,
        scope=scope,
        reward=reward,
        group_by=group_by,
        out=out,
        json_file=json_file,
    )


@credit.command("check")
def check_credit(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder with a checkpoint.")],
    turns: Annotated[int, typer.Option("--turns", help="Turns sampled from its dialogues.")] = 16,
    rerolls: Annotated[
        int, typer.Option("--rerolls", help="Continuations of each stored reply, and other replies.")
    ] = 8,
    gamma: Annotated[float, typer.Option("--gamma", help="Discount of the measured returns.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the choice of turns and of the continuations.")] = 0,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", metavar="FILE.png", help="Draw credit against measured worth."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Roll other replies forward from sampled turns of a run: does credit go with what replies are worth?"""
    from mica_ray.cli.credit_check import run_credit_check

    run_credit_check(
        folder, turns=turns, rerolls=rerolls, gamma=gamma, seed=seed, out=out, json_file=json_file
    )
