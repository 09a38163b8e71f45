"""Reads tables of ratings: one row per rating, one column per rater, or one file per rater.

Columns are recognized by their names; every choice can be overridden. agreement.py computes the statistics.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from mica_ray.error_lines import first_line
from mica_ray.judges.agreement import RatingTable
from mica_ray.valid_text import valid_text

HUMANEBENCH_LABELS = {"hell yes": 1.0, "soft yes": 0.5, "soft no": -0.5, "hell no": -1.0}
"""The labels of HumaneBench's rating sheets."""

_RATER = re.compile(r"(judge|rater|annotator|coder|worker|reviewer|assessor|evaluator)(_?(name|id|model))?")
_RATING = re.compile(r"(rating|severity|score|level|label|grade|value|vote)s?\b.*")
_ITEM = re.compile(
    r"(.*[_ ])?(uid|id|item|unit|sample|question|case|dialogue|turn|model|persona|principle|axis)"
)
_CASE = re.compile(r"(input|sample|prompt|case|dialogue|scenario|conversation)(_?id)?")
_MISSING = {"", "na", "n/a", "nan", "none", "null", "-", "."}


class RatingTableError(ValueError):
    """A table of ratings that cannot be read; the message names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns to read. Empty fields are recognized by the columns' names."""

    item: tuple[str, ...] = ()
    """Columns that together name a rated item."""
    rater: str = ""
    rating: str = ""
    case: str = ""
    """Column that names what the items belong to; the bootstrap resamples its values."""


def read_ratings(
    paths: Sequence[Path], columns: Columns | None = None, labels: Mapping[str, float] | None = None
) -> RatingTable:
    """Read the ratings of one table, or of one table per rater.

    Args:
        paths: CSV files. Several files hold one rater each, who is named after the file.
        columns: columns to use instead of the recognized ones; None recognizes all of them.
        labels: rating of each label, which are then the table's levels. None reads numbers and HumaneBench's
            labels; the levels are the ratings that occur.

    Raises:
        RatingTableError: a file cannot be read, a column or label is unknown, or a rater rated an item twice.
    """
    columns = columns or Columns()
    known = {name.casefold(): value for name, value in (labels or HUMANEBENCH_LABELS).items()}
    if len(paths) == 1:
        frame = _read(paths[0])
        rater = columns.rater or _find(frame, _RATER)
        long = _long(frame, rater, columns, paths[0]) if rater else _melted(frame, columns, known, paths[0])
    else:
        long = _of_each_rater(paths, columns)
    values = [_rating(value, known, row) for row, value in enumerate(long["rating"])]
    long = long.assign(rating=values).dropna(subset=["rating"])
    _refuse_duplicates(long)
    wide = long.pivot(index="rater", columns="item", values="rating")
    case_of = dict(zip(long["item"], long["case"], strict=True))
    levels = sorted({float(value) for value in (labels.values() if labels else long["rating"])})
    items = tuple(map(str, wide.columns))
    try:
        return RatingTable(
            wide.to_numpy(dtype=float),
            raters=tuple(map(str, wide.index)),
            items=items,
            cases=tuple(str(case_of[item]) for item in items),
            levels=tuple(levels),
        )
    except ValueError as error:
        raise RatingTableError(f"{', '.join(map(str, paths))}: {error}") from error


def read_labels(text: str) -> dict[str, float]:
    """Read "bad=-1,good=1" as the ratings of labels.

    >>> read_labels("Hell no=-1, soft yes = 0.5")
    {'hell no': -1.0, 'soft yes': 0.5}

    Raises:
        RatingTableError: an entry is not LABEL=NUMBER.
    """
    labels: dict[str, float] = {}
    for entry in text.split(","):
        name, _, value = entry.rpartition("=")
        try:
            labels[name.strip().casefold()] = float(value)
        except ValueError:
            raise RatingTableError(f"labels must be LABEL=NUMBER,..., got {entry.strip()!r}.") from None
    return labels


def _read(path: Path) -> pd.DataFrame:
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
        header = text.partition("\n")[0]
        separator = max(",;\t", key=header.count)
        frame = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False, sep=separator)
    except (OSError, ValueError) as error:
        raise RatingTableError(f"{path} cannot be read as CSV ({valid_text(first_line(error))}).") from error
    return frame.rename(columns=str.strip)


def _long(frame: pd.DataFrame, rater: str, columns: Columns, path: Path) -> pd.DataFrame:
    """Return the columns item, case, rater, rating of a table with one row per rating."""
    rating = _rating_column(frame.drop(columns=_existing(frame, rater, path)), columns, path)
    of_raters = [part for _, part in frame.groupby(rater, sort=False)]
    item = list(columns.item) or _item_columns(of_raters, exclude=(rater, rating))
    return _named(frame, item, columns, path).assign(rater=frame[rater], rating=frame[rating])


def _melted(frame: pd.DataFrame, columns: Columns, labels: Mapping[str, float], path: Path) -> pd.DataFrame:
    """Return the same of a table with one column per rater."""
    item = list(columns.item) or [name for name in frame.columns if _ITEM.fullmatch(name.casefold())][:1]
    raters = [
        name
        for name in frame.columns
        if name not in (*item, columns.case) and _is_rating_column(frame[name].tolist(), labels)
    ]
    if len(raters) < 2:
        raise RatingTableError(
            f"{path}: no column of rater names and fewer than 2 columns of ratings among "
            f"{list(frame.columns)}. Name the columns with --item, --rater and --rating."
        )
    if not item:
        frame, item = frame.assign(row=[str(row + 1) for row in range(len(frame))]), ["row"]
    named = _named(frame, item, columns, path)
    return pd.concat([named.assign(rater=name, rating=frame[name]) for name in raters], ignore_index=True)


def _of_each_rater(paths: Sequence[Path], columns: Columns) -> pd.DataFrame:
    frames = {path: _read(path) for path in paths}
    first, *others = frames.values()
    shared = [name for name in first.columns if all(name in frame.columns for frame in others)]
    ratings = {path: _rating_column(frame, columns, path) for path, frame in frames.items()}
    item = list(columns.item) or _item_columns(
        [frame.filter(items=shared) for frame in frames.values()], exclude=set(ratings.values())
    )
    return pd.concat(
        [
            _named(frame, item, columns, path).assign(rater=path.stem, rating=frame[ratings[path]])
            for path, frame in frames.items()
        ],
        ignore_index=True,
    )


def _named(frame: pd.DataFrame, item: Sequence[str], columns: Columns, path: Path) -> pd.DataFrame:
    """Return the columns item and case."""
    if not item:
        raise RatingTableError(f"{path}: no column names the items among {list(frame.columns)}. Set --item.")
    for name in item:
        _existing(frame, name, path)
    joined = frame[list(item)].agg(" | ".join, axis=1)
    case = columns.case or next((name for name in frame.columns if _CASE.fullmatch(name.casefold())), "")
    return pd.DataFrame({"item": joined, "case": frame[_existing(frame, case, path)] if case else joined})


def _item_columns(of_raters: Sequence[pd.DataFrame], exclude: Collection[str]) -> list[str]:
    """Return one column that identifies the items of every rater, or else all that look like identifiers."""
    names = [
        name for name in of_raters[0].columns if name not in exclude and _ITEM.fullmatch(name.casefold())
    ]
    for name in names:
        if not any(frame[name].duplicated().any() for frame in of_raters):
            return [name]
    return names


def _rating_column(frame: pd.DataFrame, columns: Columns, path: Path) -> str:
    found = columns.rating or _find(frame, _RATING)
    if not found:
        raise RatingTableError(f"{path}: no column of ratings among {list(frame.columns)}. Set --rating.")
    return _existing(frame, found, path)


def _find(frame: pd.DataFrame, pattern: re.Pattern[str]) -> str:
    return next((name for name in frame.columns if pattern.fullmatch(name.casefold())), "")


def _existing(frame: pd.DataFrame, name: str, path: Path) -> str:
    if name not in frame.columns:
        raise RatingTableError(f"{path} has no column {name!r}. Its columns are {list(frame.columns)}.")
    return name


def _is_rating_column(values: Sequence[str], labels: Mapping[str, float]) -> bool:
    given = [text for value in values if (text := value.strip().casefold()) not in _MISSING]
    return bool(given) and all(text in labels or _number(text) is not None for text in given)


def _rating(value: str, labels: Mapping[str, float], row: int) -> float:
    text = value.strip().casefold()
    if text in _MISSING:
        return np.nan
    number = labels.get(text, _number(text))
    if number is None:
        raise RatingTableError(
            f"row {row + 2}: {value!r:.60} is neither a number nor a known label. "
            "Set --labels LABEL=NUMBER,..."
        )
    return number


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _refuse_duplicates(long: pd.DataFrame) -> None:
    twice = long[long.duplicated(["rater", "item"])]
    if len(twice):
        first = twice.iloc[0]
        raise RatingTableError(
            f"{first['rater']} rated the item {first['item']!r:.80} more than once. Set --item to the "
            "columns that together name an item."
        )
