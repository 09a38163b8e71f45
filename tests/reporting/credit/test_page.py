"""The page that compares credit estimators, in a browser without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mica_ray.credit import Grpo, Mica
from mica_ray.credit_study.comparison import compare_credit
from mica_ray.files import write_whole
from mica_ray.recordings.recorded_turns import RecordedTurns, read_recorded_turns
from mica_ray.reporting.credit.page import credit_page
from tests.browser import chromium, settled_at
from tests.evaluation.recorded_files import Fields, write
from tests.recordings.stored_files import run_dialogue
from tests.reporting.open_page import HOSTILE, OpenPage, opened


def page_of(stored: RecordedTurns, path: Path) -> Path:
    comparison = compare_credit(
        stored.turns,
        {"mica": Mica(), HOSTILE: Grpo()},
        batch=stored.batch,
        gamma=0.85,
        reply_lengths=stored.reply_lengths[0],
    )
    write_whole(path, credit_page(stored, comparison, settings=HOSTILE, gamma=0.85))
    return path


def hostile_dialogues() -> list[Fields]:
    said: list[Fields] = [
        {"role": role, "content": f"{role} {turn} {HOSTILE}"}
        for turn in range(2)
        for role in ("actor", "test_model")
    ]
    return [
        run_dialogue(*path, model=f"{model} {HOSTILE}", case=HOSTILE, history=said)
        for model, path in {"one": (9, 8, 7), "two": (9, 9, 3)}.items()
    ]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenPage]:
    folder = tmp_path_factory.mktemp("credit")
    path = page_of(
        read_recorded_turns([write(folder / "runs.jsonl", hostile_dialogues())]), folder / "p.html"
    )
    with chromium() as browser, opened(browser, path) as found:
        yield found


def test_every_figure_is_drawn_offline_without_a_complaint(shown: OpenPage) -> None:
    shown.page.wait_for_selector(".plot >> nth=5 >> .plot-container")
    assert shown.page.locator(".plot .main-svg").count() >= 6
    assert shown.problems == []


def test_correlations_stand_apart_on_a_phone_and_axe_finds_nothing(shown: OpenPage) -> None:
    shown.page.set_viewport_size({"width": 390, "height": 800})
    settled_at(shown.page, 390)
    boxes = [one.bounding_box() for one in shown.page.locator("#agreement .plot").all()]
    first, second = (box for box in boxes if box)
    assert first["y"] + first["height"] <= second["y"]
    assert shown.violations() == []


def test_words_names_and_settings_stand_in_the_page_as_text(shown: OpenPage) -> None:
    assert shown.page.title() == "Comparison of credit estimators"
    assert shown.page.locator("img").count() == 0
    replies = shown.page.locator(".talk .reply").all_text_contents()
    assert replies == [f"test_model {turn} {HOSTILE}" for turn in (0, 1)] * 2
    assert HOSTILE in shown.page.inner_text("#what-was-credited")
    assert shown.page.locator(".talk thead th").last.text_content() == HOSTILE


def test_every_turn_shows_its_reward_its_return_and_every_advantage(shown: OpenPage) -> None:
    summaries = shown.page.locator("#where-they-disagree summary").all_text_contents()
    row = next(number for number, text in enumerate(summaries) if text.startswith("one"))
    cells = shown.page.locator("#where-they-disagree table").nth(row).locator("tbody tr").nth(0).locator("td")
    # Distances 9, 8, 7: reward 1, return 1 + 0.85. In all, one closed 2 points and two closed 6.
    texts = cells.all_text_contents()[1:]
    assert texts[:2] == ["+1.00", "+1.85"]
    assert texts[3] == "-1.00"  # GRPO: the worse of two is -1, and so is every turn; rms 1


def test_records_without_words_say_so(tmp_path: Path) -> None:
    stored = read_recorded_turns([write(tmp_path / "runs.jsonl", [run_dialogue(9, 8, history=[])])])
    assert "The records contain no text." in page_of(stored, tmp_path / "p.html").read_text()
