"""The page of a judge's card: every figure, the conclusion, and texts of people and judges as text."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from mica_ray.judges.card.record import card_record
from mica_ray.reporting.judges.figures import interval_bars, kappa_map, turn_scatter
from mica_ray.reporting.judges.page import card_page
from mica_ray.statistics import Interval
from tests.judges.card.scripted_judges import Noisy, OrderBiased
from tests.judges.card.talks import card_of, measured
from tests.reporting.open_page import HOSTILE


async def test_page_has_figures_and_conclusion_and_no_unescaped_text(tmp_path: Path) -> None:
    noisy, _, turns = await measured(Noisy(), tmp_path, said=HOSTILE)
    biased, _, _ = await measured(OrderBiased(), tmp_path, said=HOSTILE)
    card = card_of([replace(noisy, name=HOSTILE), biased], turns)
    text = card_page(card)
    # Alpha, noise, kappa, shifts, drift, bias.
    assert text.count('class="plot"') == 6
    assert HOSTILE not in text and "<img" not in text
    assert HOSTILE in unescape(text)  # names, messages and replies are shown
    assert "not usable: " in text and "shift by axis_order" in text


async def test_page_of_a_judge_that_was_asked_once_and_answered_nothing_opens(tmp_path: Path) -> None:
    found, _, turns = await measured(Noisy(), tmp_path, repeats=1, names=["as_is"], num=1)
    silent = replace(found, turns=found.turns * float("nan"))
    text = card_page(card_of([silent], turns, repeats=1))
    assert "Judged once" in text and "All repeats are equal" in text
    assert re.search(r"known replies judged right.*?not measured", text, re.DOTALL)


def test_bars_have_intervals_and_names_are_escaped() -> None:
    figure = interval_bars({HOSTILE: {"C": Interval(0.5, 0.25, 0.625)}}, y="alpha", limits=[0.667])
    (bar,) = json.loads(figure.to_json() or "")["data"]
    assert "<" not in bar["name"]
    assert bar["error_y"] == {"array": [0.125], "arrayminus": [0.25]}


async def test_map_has_every_pair_and_repeats_on_the_diagonal(tmp_path: Path) -> None:
    noisy, _, turns = await measured(Noisy(), tmp_path, names=["as_is"])
    biased, _, _ = await measured(OrderBiased(), tmp_path, names=["as_is"])
    card = card_of([noisy, biased], turns)
    values = kappa_map(card).data[0].z  # pyright: ignore
    assert values.shape == (3, 3)
    assert values[1, 1] == 1  # OrderBiased is the same each time
    assert values[0, 1] == values[1, 0]
    # Points along turns: one trace and one line per rater.
    assert len(turn_scatter(card).data) == 6  # pyright: ignore


async def test_record_is_json_with_the_noise_that_credit_needs(tmp_path: Path) -> None:
    noisy, _, turns = await measured(Noisy(), tmp_path)
    record = card_record(card_of([noisy], turns))
    judge = record["judges"]["Noisy"]  # pyright: ignore
    assert set(judge["noise_sd"]) == {"C", "A", "P"} and judge["noise_sd"]["C"] == 0
    assert judge["noise_covariance"][1][1] == pytest.approx(judge["noise_sd"]["A"] ** 2)
    assert set(judge["sensitivity"]) == {"axis_order", "paraphrase", "language", "padding"}
    assert set(judge["bias"]) == {"length", "echo"}
    assert judge["self_agreement"]["all"]["alpha_ordinal"] < 1
    assert len(record["turns"]) == 12  # pyright: ignore
