"""The page of dialogues in a browser: reading, search, sorting, and harmless text of models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from mica_ray.cli import main
from mica_ray.config import RunConfig
from mica_ray.config.references import ConfigError
from mica_ray.credit import Mica
from mica_ray.reporting.credit.turn_page import turn_report
from mica_ray.runs.stored_run import read_runs
from tests.browser import chromium, settled_at
from tests.reporting.open_page import HOSTILE, OpenPage, opened
from tests.runs.written_run import dialogue, of_rewards, turn, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CONFIG = RunConfig(credit=Mica(gamma=0.0))
HOSTILE_TURNS = (
    turn(0, -1.0, reply=HOSTILE, user=HOSTILE, guidance=HOSTILE, evidence={HOSTILE: HOSTILE}),
    turn(1, 3.0, reply="The tide will turn.", state=[-2.0, -2.0, -1.0]),
)
LINES = (
    dialogue(0, 0, 0, HOSTILE_TURNS, scenario=HOSTILE, category=HOSTILE, error=HOSTILE),
    of_rewards(0, 0, 1, [0.0, 0.0]),
    of_rewards(1, 3, 0, [0.0, 1.0, None]), of_rewards(1, 3, 1, [0.0, 0.0]),
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run", CONFIG, dialogues=LINES)


@pytest.fixture
def shown(browser: Browser, run: Path) -> Iterator[OpenPage]:
    path = run / "turns.html"
    if not path.exists():
        with pytest.raises(SystemExit) as ended:
            main(["report", "turns", str(run)])
        assert ended.value.code == 0
    with opened(browser, path) as found:
        found.page.wait_for_selector("#dialogue .turn")
        found.page.wait_for_selector("#list li")
        yield found


def cells(shown: OpenPage, number: int) -> dict[str, str]:
    """The numbers next to a turn."""
    body = shown.page.locator(".turn").nth(number).locator(".credit table").first
    return dict(zip(body.locator("th").all_inner_texts(), body.locator("td").all_inner_texts(), strict=True))


def test_page_opens_at_the_most_instructive_dialogue_with_its_credit(shown: OpenPage) -> None:
    # The numbers are those of tests/reporting/credit/test_turn_credit.py.
    assert cells(shown, 0) == {
        "reward": "−1.00", "return": "−1.00", "turn term": "−1.00", "group term": "−1.00",
        "mixed": "−1.00", "GRPO": "+1.00", "trained on": "−1.00",
    }  # fmt: skip
    assert cells(shown, 1)["mixed"] == "+1.33"
    assert shown.page.inner_text(".flip") == "flip: MICA negative, GRPO positive"
    assert shown.page.locator(".path polyline").count() == 4
    assert "−3 → −2" in shown.page.locator(".turn").nth(1).inner_text()
    assert shown.problems == []


def test_words_of_models_stay_text_wherever_they_stand(shown: OpenPage) -> None:
    assert shown.page.inner_text(".turn .reply >> nth=0") == HOSTILE
    assert shown.page.inner_text(".turn .user >> nth=0") == HOSTILE
    shown.page.click("text=what the judge wrote >> nth=0")
    assert HOSTILE in shown.page.inner_text(".turn .credit details >> nth=0")
    shown.page.fill("#search", "onerror")
    shown.page.locator("#found", has_text="1 of 4").wait_for()
    assert shown.page.title() == "Turn credit of run"
    assert shown.page.locator("img").count() == 0
    assert shown.problems == []


def test_replies_are_shaded_by_the_weight_of_their_tokens(shown: OpenPage) -> None:
    grounds = shown.page.locator(".turn .reply").evaluate_all(
        "all => all.map(one => getComputedStyle(one).backgroundColor)"
    )
    assert len(set(grounds)) == 2 and all(ground != "rgba(0, 0, 0, 0)" for ground in grounds)
    # Advantages -1 and 3 in the log, against the largest of the run.
    assert "4 tokens, each of weight −0.33" in shown.page.inner_text(".turn >> nth=0")
    assert "4 tokens, each of weight +1.00" in shown.page.inner_text(".turn >> nth=1")


def test_search_finds_what_was_said_and_sorting_reorders(shown: OpenPage) -> None:
    page = shown.page
    assert page.locator("#list li a").all_inner_texts()[0].startswith("0-0-0")  # The largest disagreement.
    page.select_option("#sort", "order")
    assert [text.split()[0] for text in page.locator("#list li a").all_inner_texts()] == [
        "0-0-0", "0-0-1", "1-3-0", "1-3-1",
    ]  # fmt: skip
    page.fill("#search", "TIDE turn")
    page.locator("#found", has_text="1 of 4 dialogues").wait_for()
    assert page.locator("#list li").count() == 1
    page.fill("#search", "no such words")
    page.locator("#found", has_text="0 of 4 dialogues").wait_for()


def test_keyboard_reaches_search_sorting_and_folded_parts_with_a_visible_focus(shown: OpenPage) -> None:
    page = shown.page
    page.focus("nav a >> nth=2")
    reached: list[tuple[str, str]] = []
    while len(reached) < 40 and ("summary", "solid") not in reached:
        page.keyboard.press("Tab")
        reached.append(shown.focus)
    assert {("search", "solid"), ("sort", "solid"), ("summary", "solid")} <= set(reached)
    page.keyboard.press("Enter")
    assert page.locator(".turn details[open]").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(
    browser: Browser, run: Path, shown: OpenPage, scheme: Literal["light", "dark"]
) -> None:
    del shown  # The fixture has written the page.
    with opened(browser, run / "turns.html", width=390, scheme=scheme) as found:
        found.page.wait_for_selector("#dialogue .turn")
        found.page.wait_for_selector("#list li")
        assert found.violations() == []


def test_dialogue_is_opened_from_the_list_and_from_its_siblings(shown: OpenPage) -> None:
    page = shown.page
    page.click("#list >> text=1-3-0")
    page.wait_for_selector("#dialogue[data-id='1-3-0']")
    assert "Not judged (invalid: no JSON)" in page.inner_text(".turn >> nth=2")
    assert "does not count in the loss" in page.inner_text(".turn >> nth=2")
    assert "No sibling reached this turn" in page.inner_text(".turn >> nth=2")
    page.click("text=1 sibling at this turn >> nth=0")
    assert "reward +0.00, return +0.00" in page.inner_text(".turn .said details >> nth=0")
    page.click(".turn .said details a >> nth=0")
    page.wait_for_selector("#dialogue[data-id='1-3-1']")
    assert shown.problems == []


def test_one_dialogue_comes_with_its_group_alone(browser: Browser, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.html"
    with pytest.raises(SystemExit) as ended:
        main(["report", "turns", str(run), "--dialogue", "1-3-1", "--out", str(path)])
    assert ended.value.code == 0
    with opened(browser, path, width=380) as found:
        found.page.wait_for_selector("#dialogue[data-id='1-3-1']")
        found.page.locator("#found", has_text="2 of 2 dialogues").wait_for()
        settled_at(found.page, 380)
        assert found.problems == []


def test_unknown_dialogue_and_run_without_any_are_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--dialogue 9-9-9: run has no dialogue with this id .*Similar: "):
        turn_report(read_runs([run])[0], dialogue="9-9-9")
    empty = write_run(tmp_path / "empty", CONFIG, dialogues=())
    with pytest.raises(ConfigError, match="contains no dialogue"):
        turn_report(read_runs([empty])[0])


def test_full_page_keeps_the_groups_that_disagree_most_and_says_what_is_missing(tmp_path: Path) -> None:
    # The second group agrees with GRPO on every turn.
    lines = [*LINES[:2], of_rewards(1, 0, 0, [1.0, 1.0]), of_rewards(1, 0, 1, [0.0, 0.0])]
    (run,) = read_runs([write_run(tmp_path / "run", CONFIG, dialogues=lines)])
    page = turn_report(run, most_bytes=1)
    assert "2 dialogues are left out" in page
    assert '"id":"0-0-0"' in page and '"id":"1-0-0"' not in page


def test_run_has_one_page(run: Path) -> None:
    (read,) = read_runs([run])
    assert turn_report(read) == turn_report(read)
