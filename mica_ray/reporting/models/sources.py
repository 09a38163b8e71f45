"""Find stored results of models: run folders, folders of evaluations and answers, files of dialogues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mica_ray.config.references import ConfigError
from mica_ray.reporting.models.results import TITLES, BenchmarkResult, ModelResults
from mica_ray.reporting.models.stored import StoredModel, read_folder, read_recordings

_FORMS = (
    "a run folder, a folder that `mica evaluate empa`, emobench, eqbench2 or eqbench3 wrote, "
    "or a file of recorded dialogues"
)


@dataclass(frozen=True, slots=True)
class Source:
    """A path on the command line, with the model that the user names for it."""

    path: Path
    name: str | None = None
    """None: the name stored there."""


def read_source_name(argument: str) -> Source:
    """Read PATH or NAME=PATH; an argument that exists as a path is one, even with "=" in it.

    Raises:
        ConfigError: there is no such path, or the name is empty.
    """
    path = Path(argument).expanduser()
    if path.exists():
        return Source(path)
    name, is_named, rest = argument.partition("=")
    path = Path(rest).expanduser()
    if not is_named or not path.exists():
        raise ConfigError(
            f"{argument}: no such folder or file. Name {_FORMS}; NAME=PATH also names its model."
        )
    if not shown_name(name):
        raise ConfigError(f"{argument}: the name before = is empty. Write NAME=PATH.")
    return Source(path, shown_name(name))


def read_models(
    sources: Sequence[Source], *, progress: Callable[[str], None] = lambda name: None
) -> tuple[ModelResults, ...]:
    """Read all sources and merge those of one model, in order of first appearance.

    Two results of a model on one benchmark are two runs of it, and must share items.

    Args:
        sources: paths and names.
        progress: called with every path before it is read.

    Raises:
        ConfigError: a source cannot be read, is listed twice, or does not fit the others of its model.
    """
    paths = [source.path.resolve() for source in sources]
    for number, path in enumerate(paths):
        if path in paths[:number]:
            raise ConfigError(f"{path} is listed twice. List every source once.")
    rows: dict[str, ModelResults] = {}
    for source in sources:
        progress(source.path.name)
        for model in _read(source):
            name = source.name or shown_name(model.name) or shown_name(source.path.name) or "model"
            row = rows.get(name, ModelResults(name))
            for result in model.results:
                _check_shared(row, result)
            curves = (*row.curves, model.curve) if model.curve else row.curves
            rows[name] = ModelResults(name, (*row.results, *model.results), curves)
    return tuple(rows.values())


def shown_name(name: str) -> str:
    """Return a name as one line of printable characters; empty if there are none."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())


def _read(source: Source) -> tuple[StoredModel, ...]:
    path = source.path
    if path.is_file() and path.name != "answers.jsonl":
        models = read_recordings(path)
    else:
        folder = path if path.is_dir() else path.parent
        models = read_folder(folder)
        if models is None:
            raise ConfigError(f"{path} holds no results that this table can show. Name {_FORMS}.")
    if source.name is not None and len(models) > 1:
        names = ", ".join(model.name for model in models)
        raise ConfigError(f"{source.name}={path}: the file has several models ({names}). Leave out the name.")
    return models


def _check_shared(row: ModelResults, result: BenchmarkResult) -> None:
    for other in row.of(result.benchmark):
        if other.items and result.items and not other.items & result.items:
            raise ConfigError(
                f"{row.name} has two results on {TITLES[result.benchmark]} without a common item: "
                f"{other.source} and {result.source}. Name them apart with NAME=PATH."
            )
