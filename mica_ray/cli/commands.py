"""The command line: its commands, here or in the files named *_commands.py, and its errors.

An error the user can mend is one line on stderr and exit code 2.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Optional

import typer

from mica_ray.cli.credit_commands import credit
from mica_ray.cli.data_commands import data
from mica_ray.cli.evaluate import evaluate
from mica_ray.cli.finished_runs import compare, register, track
from mica_ray.cli.options import DryRun, Inline, JsonFile, Sets
from mica_ray.cli.promote_command import promote
from mica_ray.cli.report import report
from mica_ray.cli.serve_commands import serve, serve_key

app = typer.Typer(
    name="mica",
    help="Train language models over whole conversations with MICA, on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(evaluate)
app.add_typer(credit)
app.add_typer(report)
app.add_typer(data)
app.add_typer(serve_key)
app.command()(compare)
app.command()(promote)
app.command()(register)
app.command()(serve)
app.command()(track)

Recipe = Annotated[
    Optional[str],  # noqa: UP045 -- typer reads the annotation
    typer.Argument(help="A Python file that defines CONFIG, or FILE.py:NAME. Default: the embedded run."),
]


@app.command()
def train(
    recipe: Recipe = None,
    sets: Sets = None,
    resume: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--resume", metavar="DIR", help="Go on with the run of this folder."),
    ] = None,
    inline: Inline = False,
    dry_run: DryRun = False,
    json_file: JsonFile = None,
) -> None:
    """Train a policy, and evaluate it before and after."""
    from mica_ray.cli.train import run_training

    run_training(
        recipe, assignments=sets or (), resume=resume, inline=inline, dry_run=dry_run, json_file=json_file
    )


@app.command()
def sweep(
    file: Annotated[
        str, typer.Argument(metavar="SWEEP.py", help="A Python file that defines SWEEP, or FILE.py:NAME.")
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on in the sweep's folder; finished trials are only read.")
    ] = False,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", metavar="DIR", help="The sweep's folder. Default: runs/NAME."),
    ] = None,
    sets: Sets = None,
    concurrency: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--concurrency", min=1, help="Trials at once at most; default: as many as fit."),
    ] = None,
    json_file: JsonFile = None,
    dry_run: DryRun = False,
) -> None:
    """Train every cell of a search space under several seeds, compare them, and answer a question."""
    from mica_ray.cli.sweep import run_sweep

    is_answered = run_sweep(
        file,
        assignments=sets or (),
        resume=resume,
        out=out,
        concurrency=concurrency,
        dry_run=dry_run,
        json_file=json_file,
    )
    if not is_answered:
        raise typer.Exit(1)


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="A run folder, a model folder, a hub id, or `embedded`.")],
    sets: Sets = None,
) -> None:
    """Talk to a policy; after each reply the judge's estimate of your state is shown."""
    from mica_ray.cli.chat import run_conversation

    run_conversation(model, assignments=sets or ())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: after the program's name; those of the process when None.
    """
    try:
        app(args=None if arguments is None else list(arguments))
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        print(f"mica: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(code)


def exit_code(error: Exception) -> int | None:
    """Give the exit code of an error that speaks for itself in one line; None asks for the traceback.

    2: the user asked for what cannot be done. 1: the run met something it cannot go on with.
    """
    from mica_ray.chat.model import ChatError
    from mica_ray.config.references import ConfigError

    if isinstance(error, ConfigError):
        return 2
    if isinstance(error, ChatError):
        return 2 if error.kind == "refused" else 1
    from mica_ray.rollout.engine import EngineError
    from mica_ray.training.checkpoint import CheckpointError
    from mica_ray.training.learner import LearnerError
    from mica_ray.training.loop import RolloutError

    return 1 if isinstance(error, EngineError | LearnerError | CheckpointError | RolloutError) else None
