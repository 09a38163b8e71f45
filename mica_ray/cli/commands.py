"""The program `mica`: its commands, and how errors end it.

An error that the user can fix is printed as one line on stderr; the exit code is 2, or 1 if a run stopped.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper

import typer

from mica_ray.cli.chat import chat_command
from mica_ray.cli.credit.commands import credit_app
from mica_ray.cli.data.commands import data_app
from mica_ray.cli.doctor import doctor_command
from mica_ray.cli.evaluate import evaluate_app
from mica_ray.cli.finished_runs import compare_command, register_command, track_command
from mica_ray.cli.judges.commands import judges_app
from mica_ray.cli.merge import merge_command
from mica_ray.cli.options import examples
from mica_ray.cli.promote import promote_command
from mica_ray.cli.report import report_app
from mica_ray.cli.serve import serve_command
from mica_ray.cli.serve_key import serve_key_app
from mica_ray.cli.sweep import sweep_command
from mica_ray.cli.train import train_command
from mica_ray.secrets import redact, register_environment

app = typer.Typer(
    name="mica",
    help="Train language models over whole dialogues with MICA, on Ray. "
    "`mica COMMAND --help` lists the options of a command.",
    epilog=examples(
        "mica train                      train a small policy here, in a few minutes",
        "mica chat runs/embedded-TIME    talk to it",
        "mica report runs/embedded-TIME  write a page with its charts",
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

TRAINING, READING, MODELS, CARDS = "Train and evaluate", "Read results", "Publish and serve", "Prepare cards"
"""Panels of the help text."""

app.command(
    "train",
    rich_help_panel=TRAINING,
    epilog=examples(
        "mica train",
        "mica train --set credit.alpha=0.7 --set seed=1",
        "mica train experiments/mica_qwen3.py:qwen3_14b --dry-run",
        "mica train --resume runs/embedded-TIME --set loop.num_steps=60",
    ),
)(train_command)
app.command(
    "doctor",
    rich_help_panel=TRAINING,
    epilog=examples(
        "mica doctor",
        "mica doctor experiments/mica_qwen3.py:qwen3_14b",
        'mica doctor --set \'roles={"model": "gpt-5-mini", "api_key_env": "OPENAI_API_KEY"}\'',
    ),
)(doctor_command)
app.command(
    "sweep",
    rich_help_panel=TRAINING,
    epilog=examples(
        "mica sweep experiments/ablate_advantage.py",
        "mica sweep experiments/ablate_advantage.py --resume",
    ),
)(sweep_command)
app.add_typer(evaluate_app, rich_help_panel=TRAINING)
app.command(
    "chat", rich_help_panel=TRAINING, epilog=examples("mica chat runs/embedded-TIME", "mica chat embedded")
)(chat_command)
app.add_typer(report_app, rich_help_panel=READING)
app.command(
    "compare",
    rich_help_panel=READING,
    epilog=examples(
        "mica compare runs/a runs/b --latex table.tex",
        "mica compare runs/a-seed0 runs/a-seed1 --against runs/b-seed0 --against runs/b-seed1",
    ),
)(compare_command)
app.add_typer(credit_app, rich_help_panel=READING)
app.add_typer(judges_app, rich_help_panel=READING)
app.command("register", rich_help_panel=MODELS, epilog=examples("mica register runs/a --name support"))(
    register_command
)
app.command(
    "promote",
    rich_help_panel=MODELS,
    epilog=examples(
        "mica promote runs/a --against before --name support",
        "mica promote runs/b --against runs/a --name support --alias champion",
    ),
)(promote_command)
app.command(
    "serve",
    rich_help_panel=MODELS,
    epilog=examples(
        "mica serve runs/embedded-TIME",
        "mica serve models:/support@champion --replicas 2",
        "mica serve runs/a runs/b --host 0.0.0.0 --api-key-file keys.json",
    ),
)(serve_command)
app.add_typer(serve_key_app, rich_help_panel=MODELS)
app.command(
    "merge", rich_help_panel=MODELS, epilog=examples("mica merge runs/a", "mica merge runs/a --out models/a")
)(merge_command)
app.command("track", rich_help_panel=MODELS, epilog=examples("mica track runs/embedded-TIME"))(track_command)
app.add_typer(data_app, rich_help_panel=CARDS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: those after the program's name; None reads them from the process.
    """
    register_environment(os.environ)
    # Names from the file system may contain bytes that are no text, and a terminal may lack characters.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        with _sigterm_exits():
            app(args=None if arguments is None else list(arguments))
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        print(f"mica: {redact(' '.join(str(error).split()))}", file=sys.stderr)
        sys.exit(code)
    finally:
        sys.excepthook = _print_redacted  # Typer has set its own by now.


@contextmanager
def _sigterm_exits() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, so that a command cleans up: engines, temporary folders, the MLflow run."""
    if threading.current_thread() is not threading.main_thread():  # Only the main thread gets signals.
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_redacted(
    kind: type[BaseException], error: BaseException, where: types.TracebackType | None
) -> None:
    """Print an uncaught error like Python, without secrets."""
    print(redact("".join(traceback.format_exception(kind, error, where))), end="", file=sys.stderr)


def exit_code(error: Exception) -> int | None:
    """Return the exit code of an error that needs no traceback; None if it needs one.

    2: the request cannot be carried out as given. 1: the run met a failure and stopped.
    """
    from mica_ray.chat.model import ChatError
    from mica_ray.config.references import ConfigError
    from mica_ray.files import JsonFileError

    if isinstance(error, ConfigError | JsonFileError):
        return 2
    if isinstance(error, ChatError):
        return 2 if error.kind == "refused" else 1
    from mica_ray.rollout.engine import EngineError
    from mica_ray.training.checkpoint import CheckpointError
    from mica_ray.training.learner import LearnerError
    from mica_ray.training.loop import RolloutError

    return 1 if isinstance(error, EngineError | LearnerError | CheckpointError | RolloutError) else None
