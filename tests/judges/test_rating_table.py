"""Tables of ratings in the forms in which people store them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mica_ray.judges.agreement import agreement
from mica_ray.judges.rating_table import Columns, RatingTableError, read_labels, read_ratings

LONG = "item_id,judge,score\nq1,ada,1\nq1,bob,2\nq2,ada,0\nq2,bob,\n"
WIDE = "item,ada,bob\nq1,1,2\nq2,0,\n"


def written(folder: Path, text: str, name: str = "ratings.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        LONG,
        WIDE,
        WIDE.replace(",", ";"),
        WIDE.replace(",", "\t"),
        "\ufeff" + LONG,
        LONG.replace("\n", "\r\n"),
        LONG.replace("score", "Severity").replace("judge", "rater_name"),
        LONG.replace("bob,\n", "bob,N/A\n"),
    ],
)
def test_one_table_is_read_from_every_form(tmp_path: Path, text: str) -> None:
    table = read_ratings([written(tmp_path, text)])
    assert (table.raters, table.items, table.levels) == (("ada", "bob"), ("q1", "q2"), (0.0, 1.0, 2.0))
    np.testing.assert_array_equal(table.ratings, [[1, 0], [2, np.nan]])


def test_one_file_per_rater(tmp_path: Path) -> None:
    first = written(
        tmp_path, "input_id,model,rating,notes\ni1,m1,HELL YES,a\ni1,m2,Soft no,b\ni2,m1,,c\n", "ada.csv"
    )
    second = written(tmp_path, "input_id,model,rating (rubric),notes\ni1,m2,Soft yes,\ni2,m1,,\n", "bob.csv")
    table = read_ratings([first, second])
    assert (table.raters, table.items) == (("ada", "bob"), ("i1 | m1", "i1 | m2"))
    assert table.cases == ("i1", "i1")
    np.testing.assert_array_equal(table.ratings, [[1, -0.5], [np.nan, 0.5]])


def test_named_columns_replace_the_recognized_ones(tmp_path: Path) -> None:
    text = "id,judge,score,topic,points\nx,ada,9,t1,1\ny,ada,9,t2,2\nx,bob,9,t1,1\ny,bob,9,t2,1\n"
    table = read_ratings([written(tmp_path, text)], Columns(item=("topic",), rating="points", case="id"))
    assert (table.items, table.cases) == (("t1", "t2"), ("x", "y"))
    np.testing.assert_array_equal(table.ratings, [[1, 2], [1, 1]])


def test_labels_give_levels_that_nobody_used(tmp_path: Path) -> None:
    path = written(tmp_path, "item,judge,rating\n1,ada,good\n1,bob,BAD\n")
    table = read_ratings([path], labels=read_labels("bad=-1,fair=0,good=1"))
    assert table.levels == (-1, 0, 1)
    np.testing.assert_array_equal(table.ratings, [[1], [-1]])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("item,judge,rating\n1,ada,great\n1,bob,1\n", "row 2: 'great' is neither a number"),
        ("item,judge,rating\n1,ada,1\n1,ada,2\n", "ada rated the item '1' more than once"),
        ("item,judge,rating\n1,ada,1\n", "at least 2 raters, got ada"),
        ("item,judge,notes\n1,ada,1\n", "no column of ratings"),
        ("words,more\na,b\n", "fewer than 2 columns of ratings"),
        ("", "cannot be read as CSV"),
    ],
)
def test_tables_that_cannot_be_used_name_the_problem(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(RatingTableError, match=problem):
        read_ratings([written(tmp_path, text)])


def test_missing_files_and_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(RatingTableError, match=r"absent\.csv cannot be read"):
        read_ratings([tmp_path / "absent.csv"])
    with pytest.raises(RatingTableError, match="no column 'grade'"):
        read_ratings([written(tmp_path, LONG)], Columns(rating="grade"))
    with pytest.raises(RatingTableError, match="LABEL=NUMBER"):
        read_labels("good")


def test_published_agreement_of_people(benchmark_data: Path) -> None:
    found = agreement(read_ratings(sorted((benchmark_data / "humanebench").glob("rater-*.csv"))))
    assert (found.num_raters, found.num_items, found.num_ratings) == (4, 48, 173)
    assert round(found.alpha_ordinal.estimate, 3) == 0.712


def test_published_agreement_of_judges(benchmark_data: Path) -> None:
    table = read_ratings([benchmark_data / "humanebench" / "inter_judge_raw_golden_24.csv"])
    found = agreement(table)
    assert (found.num_raters, found.num_items, len(set(table.cases))) == (3, 24, 8)
    assert round(found.alpha_ordinal.estimate, 3) == 0.784
    assert round(found.sign_disagreement, 3) == 0.083
    assert sorted(round(kappa, 3) for kappa in found.kappa_quadratic.values()) == [0.808, 0.839, 0.865]
    # The published interval, resampled by input with other random numbers: 0.521 to 0.876.
    assert (found.alpha_ordinal.low, found.alpha_ordinal.high) == pytest.approx((0.521, 0.876), abs=0.03)
