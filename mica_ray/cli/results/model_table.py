"""`mica evaluate table`: the paper's Table 1 and figures from stored results of any models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mica_ray.cli.options import JsonFileOption, new_console, save_json, writing

if TYPE_CHECKING:
    from mica_ray.reporting.models.results import ModelResults
    from mica_ray.reporting.models.table import ModelTable

TABLE_TEX, TABLE_PNG, TABLE_JSON = "table.tex", "table.png", "table.json"


def table_command(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="Run folders, folders of `mica evaluate empa`, emobench, eqbench2 or eqbench3, and files of "
            "recorded dialogues. Those of one model share a row; NAME=RUN sets the model's name.",
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="Compare all models with this one: a RUN, or the name of a listed model."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help=f"Also write {TABLE_TEX}, {TABLE_PNG}, {TABLE_JSON} and figures to this folder.",
        ),
    ] = None,
    json_file: JsonFileOption = None,
) -> None:
    """Print the paper's Table 1 for any models: EMPA, EmoBench and EQ-Bench from stored results.

    A model without a result on a benchmark has "-" there. Nothing is asked or played.
    """
    console = new_console()
    table = _read_table(runs, base, console)
    *shown, last = table.text_tables()
    for each in (*shown, last):
        each.show(console)
    for note in last.notes:
        console.print(note, highlight=False, soft_wrap=True)
    save_json(json_file, table.record())
    if out is not None:
        with writing("--out", out):
            paths = _write(table, out)
        console.print(", ".join(map(str, paths)), highlight=False, soft_wrap=True)


def _read_table(runs: Sequence[str], base: str | None, console: Console) -> ModelTable:
    """Read all results, and find the base among them."""
    from mica_ray.cli.progress import new_bars
    from mica_ray.reporting.models.sources import read_models, read_source_name
    from mica_ray.reporting.models.table import ModelTable

    sources = [read_source_name(argument) for argument in runs]
    with new_bars(console, transient=True) as bars:
        bar = bars.add_task("read", total=None)
        models = read_models(sources, progress=lambda name: bars.update(bar, advance=1, description=name))
        if base is None:
            return ModelTable(models, None)
        named = [model for model in models if model.name == base]
        if named:
            return ModelTable(models, named[0])
        source = read_source_name(base)
        # A listed source keeps the name that it has there.
        source = next((one for one in sources if one.path.resolve() == source.path.resolve()), source)
        if source not in sources:
            models = read_models([*sources, source])
        return ModelTable(models, _only_model(base, models, read_models([source])))


def _only_model(base: str, models: Sequence[ModelResults], found: Sequence[ModelResults]) -> ModelResults:
    """Return the row of the base.

    Raises:
        ConfigError: it has several models, or its row has another name.
    """
    from mica_ray.config.references import ConfigError

    rows = {model.name: model for model in models}
    if len(found) != 1 or found[0].name not in rows:
        raise ConfigError(f"--base {base} is not one row. Name the row: {', '.join(rows)}.")
    return rows[found[0].name]


def _write(table: ModelTable, folder: Path) -> list[Path]:
    """Write the table as LaTeX and JSON, and the pictures; return the files."""
    from mica_ray.files import write_json, write_whole
    from mica_ray.reporting.drawing.table_picture import table_picture
    from mica_ray.reporting.models.figures import model_figures

    tables = table.text_tables()
    write_whole(folder / TABLE_TEX, "\n".join(each.latex() for each in tables))
    write_json(folder / TABLE_JSON, table.record())
    pictures = {TABLE_PNG: table_picture(tables[:-1], "table", caption=" · ".join(table.notes()))}
    pictures |= {f"{figure.name}.png": figure for figure in model_figures(table.models)}
    for name, picture in pictures.items():
        write_whole(folder / name, picture.png())
    return [folder / name for name in (TABLE_TEX, TABLE_JSON, *pictures)]
