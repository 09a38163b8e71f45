"""`mica compare`, `mica register` and `mica track`: what can be done with run folders after training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from mica_ray.cli.options import JsonFileOption, RunArgument, TrustOption, new_console, save_json, writing

if TYPE_CHECKING:
    from mica_ray.runs.arms import RunArm


def compare_command(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Run folders. Runs that differ only in their seed share a row."),
    ],
    against: Annotated[
        list[Path] | None,
        typer.Option(
            "--against",
            metavar="RUN",
            help="Compare all runs with this one. Can be given several times, for its seeds.",
        ),
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Also write the rows as CSV.")
    ] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Also write the table as Markdown.")
    ] = None,
    latex_file: Annotated[
        Path | None, typer.Option("--latex", metavar="FILE", help="Also write the table as LaTeX.")
    ] = None,
    json_file: JsonFileOption = None,
    trust: TrustOption = False,
) -> None:
    """Compare runs: EPM-Q, passed dialogues and IDR before and after, with 95 % intervals."""
    from mica_ray.files import write_whole
    from mica_ray.reporting.runs.comparison import run_csv, run_rows, run_text_table
    from mica_ray.runs.arms import read_arms

    against = against or []
    arms = read_arms([*runs, *against])
    base = _base(arms, against)
    rows = run_rows(arms, base)
    table = run_text_table(rows, base=None if base is None else base.name)
    table.show()
    for note in table.notes:
        new_console().print(note, highlight=False, markup=False, soft_wrap=True)
    for option, path, text in (
        ("--csv", csv_file, run_csv(rows)),
        ("--markdown", markdown_file, table.markdown()),
        ("--latex", latex_file, table.latex()),
    ):
        if path is not None:
            with writing(option, path):
                write_whole(path, text)
    save_json(json_file, {"against": base and base.name, "rows": [asdict(row) for row in rows]})


def _base(arms: Sequence[RunArm], against: Sequence[Path]) -> RunArm | None:
    """Return the arm of the runs of `--against`, None without the option.

    Raises:
        ConfigError: these runs differ in more than their seed, or none has finished.
    """
    from mica_ray.config.references import ConfigError

    if not against:
        return None
    named = {path.resolve() for path in against}
    found = [arm for arm in arms if arm.folders & named]
    if len(found) > 1:
        places = " and ".join(map(str, against))
        raise ConfigError(
            f"--against: {places} differ in more than their seed. Name runs that differ only in it."
        )
    if not found[0].finished:
        raise ConfigError(
            f"--against {against[0]}: the run has not finished. "
            f"Continue it with `mica train --resume {against[0]}`."
        )
    return found[0]


def track_command(run: RunArgument, trust: TrustOption = False) -> None:
    """Send MLflow the records of a run that could not be sent while the server was unreachable.

    The exit code is 1 if the server still does not answer.
    """
    from mica_ray.config.run_config import RunConfig
    from mica_ray.runs.folder import RunFolder
    from mica_ray.runs.mlflow_run import open_tracking

    folder = RunFolder.open(run)
    config = RunConfig.read(folder.config_file)
    store = config.tracking_uri or folder.tracking_uri
    with new_console().status(Text(f"sending to {store}")):
        waiting = open_tracking(config, folder).flush()
    if waiting:
        new_console(stderr=True).print(
            f"{store} does not answer. {waiting} records wait in {folder.outbox}. "
            "Run the command again later."
        )
        raise typer.Exit(1)
    new_console().print(f"all records are at {store}", soft_wrap=True, highlight=False)


def register_command(
    run: RunArgument,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the model. Default: the name in the run's config.")
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Register the trained policy of a run as a model in MLflow, with its scores as tags."""
    from mica_ray.runs.folder import RunFolder
    from mica_ray.runs.registration import register_policy

    registration = register_policy(RunFolder.open(run), name)
    how = "registered as" if registration.is_new else "was already registered as"
    new_console().print(
        f"{how} {registration.name} version {registration.version} at {registration.store}", soft_wrap=True
    )
