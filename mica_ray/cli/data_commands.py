"""The commands `mica data ...` and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from mica_ray.cli.options import Inline, JsonFile

data = typer.Typer(name="data", help="Look through EMPA cards, and have them rated.", no_args_is_help=True)

Cards = Annotated[str, typer.Argument(metavar="DIR", help="A folder of cards, or a hub dataset id.")]


@data.command()
def check(
    cards: Cards,
    ratings: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--ratings", metavar="FILE", help="Ratings that lie outside the folder."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Print how many cards there are, by stratum, and what is wrong or odd in which; 1 if any is wrong."""
    from mica_ray.cli.data import run_check

    if not run_check(cards, ratings=ratings, json_file=json_file):
        raise typer.Exit(1)


@data.command()
def rate(
    cards: Cards,
    judge: Annotated[
        str, typer.Option("--judge", help="As roles.judge: an endpoint as JSON, vllm:MODEL or module:CLASS.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="JSON lines; what is there is kept.")],
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="Cards in rating at once.")] = 8,
    limit: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--limit", min=1, help="Rate so many cards at most."),
    ] = None,
    inline: Inline = False,
    json_file: JsonFile = None,
) -> None:
    """Have a judge model rate the cards whose initial state nobody has given."""
    from mica_ray.cli.data import run_rate

    run_rate(
        cards,
        judge=judge,
        out=out,
        concurrency=concurrency,
        limit=limit,
        inline=inline,
        json_file=json_file,
    )
