"""The commands `mica evaluate ...` and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from mica_ray.cli.default_command import MODEL_COMMAND, group_with_default
from mica_ray.cli.options import Inline, JsonFile, Sets

evaluate = typer.Typer(
    cls=group_with_default(MODEL_COMMAND),
    name="evaluate",
    help="Evaluate a policy: `mica evaluate MODEL` on the test scenarios, or one of the commands below.",
)


@evaluate.command(MODEL_COMMAND, hidden=True)
def evaluate_model(
    model: Annotated[str, typer.Argument(help="A run folder, a model folder, a hub id, or `embedded`.")],
    sets: Sets = None,
    inline: Inline = False,
    json_file: JsonFile = None,
) -> None:
    """Evaluate a policy on the test scenarios."""
    from mica_ray.cli.evaluation import run_evaluation

    run_evaluation(model, assignments=sets or (), inline=inline, json_file=json_file)


@evaluate.command()
def rescore(
    files: Annotated[
        list[Path],
        typer.Argument(help="Published EMPA runs, our own dialogues.jsonl, SAGE dialogues; told by content."),
    ],
    check_endings: Annotated[
        bool,
        typer.Option("--check-endings", help="Replay recorded levels by our rules and list what differs."),
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Score recorded dialogues without playing: EPM-Q and its indices, or SAGE's emotion score."""
    from mica_ray.cli.rescore import run_rescore

    run_rescore(files, check_endings=check_endings, json_file=json_file)


@evaluate.command()
def empa(
    policy: Annotated[
        str,
        typer.Option(help="A run folder, a model folder, a hub id, an endpoint as JSON, or module:CLASS."),
    ],
    judge: Annotated[str, typer.Option(help="Who scores, as roles.judge takes it.")],
    actor: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Who plays the user; the judge's model when not given."),
    ] = None,
    director: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Who directs the user; the judge's model when not given."),
    ] = None,
    cases: Annotated[str, typer.Option(help="official, all, or how many of the official ones.")] = "official",
    cards: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="DIR", help="Folder of the cards."),
    ] = None,
    domain: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="MODULE:NAME", help="Another domain than EMPA."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="DIR", help="Where finished cases lie; a second call plays what is missing."),
    ] = None,
    inline: Inline = False,
    sets: Sets = None,
    json_file: JsonFile = None,
) -> None:
    """Play the cases of EMPA with a policy and score them; goes on where an earlier call ended."""
    from mica_ray.cli.empa import DOMAIN, run_empa

    run_empa(
        policy,
        roles={"actor": actor, "director": director, "judge": judge},
        cases=cases,
        cards=cards,
        domain=domain or DOMAIN,
        out=out,
        inline=inline,
        assignments=sets or (),
        json_file=json_file,
    )
