"""The columns of the paper's Table 1: what a model scores, and the difference between two models."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mica_ray.reporting.models.results import EMOBENCH, EMPA, EQBENCH2, EQBENCH3, ModelResults
from mica_ray.statistics import Interval, mean_of_part_means, wilson

SEED = 20_000
"""Seed of the bootstrap, that of evaluations."""


@dataclass(frozen=True, slots=True)
class Column:
    """A score of the table: the mean over its parts of the mean over the items of each part."""

    key: str
    """Name in the JSON file."""
    title: str
    benchmark: str
    parts: tuple[str, ...]
    is_count: bool = False
    """Whether it counts the items with score 1."""


PASSED = Column("empa_passed", "EMPA passed", EMPA, ("passed",), is_count=True)
COLUMNS = (
    PASSED,
    Column("empa_score", "EMPA score", EMPA, ("epm_q",)),
    Column("emobench_ea", "EmoBench EA", EMOBENCH, ("EA",)),
    Column("emobench_eu", "EmoBench EU", EMOBENCH, ("EU",)),
    Column("emobench_overall", "EmoBench overall", EMOBENCH, ("EA", "EU")),
    Column("eqbench2", "EQ-Bench v2", EQBENCH2, ("score",)),
    Column("eqbench3", "EQ-Bench 3", EQBENCH3, ("score",)),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """A score or a difference of scores, with its 95 % interval and the number of items it is based on."""

    value: Interval
    """A count of items if the column counts, otherwise a mean over items in the unit of the benchmark."""
    num_items: int


def cell(model: ModelResults, column: Column) -> Cell | None:
    """Return what a model scores; None if a part has no scored item.

    A count has a Wilson interval over dialogues; other intervals resample the items.
    """
    parts = [list(model.item_means(column.benchmark, part).values()) for part in column.parts]
    if not all(parts):
        return None
    num_items = sum(map(len, parts))
    if not column.is_count:
        return Cell(mean_of_part_means(parts, seed=SEED), num_items)
    results = model.of(column.benchmark)
    share = wilson(sum(result.passes for result in results), sum(result.num_scored for result in results))
    return Cell(Interval(math.fsum(parts[0]), num_items * share.low, num_items * share.high), num_items)


def difference(model: ModelResults, base: ModelResults, column: Column) -> Cell | None:
    """Return a model's score minus that of the base over the items that both have.

    The interval resamples pairs of an item's two scores.

    Returns:
        None if a part has no item that both have.
    """
    gaps: list[list[float]] = []
    for part in column.parts:
        ours, theirs = (one.item_means(column.benchmark, part) for one in (model, base))
        gaps.append([ours[item] - theirs[item] for item in ours if item in theirs])
    if not all(gaps):
        return None
    num_items = sum(map(len, gaps))
    found = mean_of_part_means(gaps, seed=SEED)
    if column.is_count:
        found = Interval(*(num_items * bound for bound in (found.estimate, found.low, found.high)))
    return Cell(found, num_items)
