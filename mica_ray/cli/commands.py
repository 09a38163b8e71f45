"""The commands and their options; an error the user can mend is one line on stderr and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Optional

import typer

from mica_ray.cli.default_command import (
    COMPARE_COMMAND,
    MODEL_COMMAND,
    RUNS_COMMAND,
    group_with_default,
)
from mica_ray.cli.options import JsonFile, Sets
from mica_ray.cli.promote_command import promote
from mica_ray.cli.serve_commands import serve, serve_key

app = typer.Typer(
    name="mica",
    help="Train language models over whole conversations with MICA, on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

evaluate = typer.Typer(
    cls=group_with_default(MODEL_COMMAND),
    name="evaluate",
    help="Evaluate a policy: `mica evaluate MODEL` on the test scenarios, or one of the commands below.",
)
app.add_typer(evaluate)

credit = typer.Typer(
    cls=group_with_default(COMPARE_COMMAND),
    name="credit",
    help="Credit of stored dialogues: `mica credit FILES` is `mica credit compare FILES`.",
)
app.add_typer(credit)

Recipe = Annotated[
    Optional[str],  # noqa: UP045 -- typer reads the annotation
    typer.Argument(help="A Python file that defines CONFIG, or FILE.py:NAME. Default: the embedded run."),
]
Inline = Annotated[bool, typer.Option("--inline", help="All in this process: no Ray, no vLLM, no DeepSpeed.")]


@app.command()
def train(
    recipe: Recipe = None,
    sets: Sets = None,
    resume: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--resume", metavar="DIR", help="Go on with the run of this folder."),
    ] = None,
    inline: Inline = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved config and the plan; check; start nothing.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Train a policy, and evaluate it before and after."""
    from mica_ray.cli.training import run_training

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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; check; start nothing.")] = False,
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


@app.command()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Run folders; those that differ in their seed alone are one row."
        ),
    ],
    against: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(
            "--against", metavar="RUN", help="Compare all with this run; repeatable, for its seeds."
        ),
    ] = None,
    csv_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--csv", metavar="FILE", help="Write the rows as CSV."),
    ] = None,
    markdown_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--markdown", metavar="FILE", help="Write the table as Markdown."),
    ] = None,
    latex_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--latex", metavar="FILE", help="Write the table as LaTeX."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Compare runs: EPM-Q before and after, passed, IDR and differences with their intervals."""
    from mica_ray.cli.compare import run_compare

    run_compare(
        runs,
        against=against or (),
        csv_file=csv_file,
        markdown_file=markdown_file,
        latex_file=latex_file,
        json_file=json_file,
    )


Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


@app.command()
def track(run: Run) -> None:
    """Send to MLflow what a run could not send while the server was away."""
    from mica_ray.cli.tracking import run_track

    if not run_track(run):
        raise typer.Exit(1)


@app.command()
def register(
    run: Run,
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--name", help="Of the model; the config's name when not given."),
    ] = None,
) -> None:
    """Register a run's trained policy as a model in MLflow, with its EPM-Q and split guard as tags."""
    from mica_ray.cli.tracking import run_register

    run_register(run, name=name)


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="A run folder, a model folder, a hub id, or `embedded`.")],
    sets: Sets = None,
) -> None:
    """Talk to a policy; after each reply the judge's estimate of your state is shown."""
    from mica_ray.cli.conversation import run_conversation

    run_conversation(model, assignments=sets or ())


app.command()(promote)
app.command()(serve)
app.add_typer(serve_key)


report = typer.Typer(
    cls=group_with_default(RUNS_COMMAND),
    name="report",
    help="Report runs: `mica report RUN...` side by side, or one of the commands below.",
)
app.add_typer(report)


@report.command(RUNS_COMMAND, hidden=True)
def report_runs(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, finished or not.")],
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", metavar="FILE.html", help="The page; report.html in the first run's folder."),
    ] = None,
) -> None:
    """Write one page of charts, failures, costs and configs, and the charts as PNG files beside it."""
    from mica_ray.cli.run_report import run_report_of_runs

    run_report_of_runs(runs, out=out)


@report.command()
def turns(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, finished or not.")],
    dialogue: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--dialogue", metavar="ID", help="STEP-GROUP-DIALOGUE: its group alone."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", metavar="FILE.html", help="The page; turns.html in the run's folder."),
    ] = None,
) -> None:
    """Write one page of dialogues with what every turn was credited with, against GRPO."""
    from mica_ray.cli.turn_report import run_turn_report

    run_turn_report(run, dialogue=dialogue, out=out)


@report.command()
def figures(
    files: Annotated[
        list[Path], typer.Argument(help="Judged dialogues, JSON lines: ours, or published EMPA runs.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the pictures and the page go.")],
    gamma: Annotated[float, typer.Option("--gamma", help="Discount of the returns drawn.")] = 0.85,
) -> None:
    """Draw dialogues: PNG files, and one page that opens offline."""
    from mica_ray.cli.figures import run_figures

    run_figures(files, out=out, gamma=gamma)


data = typer.Typer(name="data", help="Look through EMPA cards, and have them rated.", no_args_is_help=True)
app.add_typer(data)

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
