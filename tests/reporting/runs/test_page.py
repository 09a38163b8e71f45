"""The page of runs in a browser: charts, tables, and a one-line error for a folder that is no run folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from mica_ray.cli import main
from mica_ray.config import RunConfig
from tests.browser import chromium, settled_at
from tests.reporting.open_page import OpenPage, opened
from tests.runs.written_run import dialogue, turn, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser

STRANGE = "<img src=x onerror=alert(1)><b>run"
"""A valid name of a folder."""


def rows(shown: OpenPage, section: str) -> dict[str, list[str]]:
    """Return the cells of a section's tables by the name of the row."""
    found: dict[str, list[str]] = {}
    for row in shown.page.locator(f"#{section} tbody tr").all():
        found[row.locator("th").inner_text()] = row.locator("td").all_inner_texts()
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    failed = dialogue(1, 0, 0, [turn(0, None)], stop="failed", error="<script>actor</script> timed out")
    one = write_run(folder / STRANGE)
    config = RunConfig(seed=7, allow_test_cards=True)
    two = write_run(folder / "two", config, dialogues=[failed], is_finished=False)
    page = folder / "out" / "runs.html"
    with pytest.raises(SystemExit) as ended:
        main(["report", str(one), str(two), "--out", str(page)])
    assert ended.value.code == 0
    return page


@pytest.fixture(scope="module")
def shown(browser: Browser, report: Path) -> Iterator[OpenPage]:
    with opened(browser, report) as found:
        yield found


def test_every_chart_is_drawn_and_lies_beside_the_page_as_a_picture(shown: OpenPage, report: Path) -> None:
    shown.page.wait_for_selector("#charts .plot >> nth=10 >> .main-svg >> nth=0")
    assert shown.page.locator("#charts .plot:has(.main-svg)").count() == 4 + 4 + 2 + 1
    assert shown.problems == []
    pictures = [path.name for path in report.parent.glob("*.png")]
    names = ("learning", "rewards_by_turn", "survivors_by_turn", "updates")
    assert sorted(pictures) == [f"runs_{name}.png" for name in names]


def test_name_of_a_run_is_text_wherever_it_stands(shown: OpenPage) -> None:
    assert shown.page.inner_text("h1") == f"2 runs: {STRANGE}, two"
    assert shown.page.locator("img").count() == 0
    assert STRANGE in shown.page.inner_text(".legend >> nth=0")


def test_unfinished_and_contaminated_runs_say_so_before_any_number(shown: OpenPage) -> None:
    lead = shown.page.inner_text(".lead")
    assert "two is unfinished: 2 of 22 steps." in lead
    assert "two is contaminated: official EMPA test cases were training scenarios." in lead


def test_results_are_those_of_the_summary(shown: OpenPage) -> None:
    found = rows(shown, "results")
    assert found[f"EPM-Q: {STRANGE}"] == ["20.0 [10.0, 30.0]"] * 3
    assert found[f"mean IDR: {STRANGE}"][2] == "not defined"
    assert len(found) == 3  # The unfinished run has none.


def test_failures_are_counted_by_run_with_their_reasons(shown: OpenPage) -> None:
    found = rows(shown, "failures")
    assert found["training dialogues"] == ["4", "1"]
    assert found["training dialogues failed"] == ["0", "1"]
    assert found["answers of the judge: invalid"] == ["1", "1"]
    assert "answers of the actor: ok" not in found  # No run logged it.
    assert found["dialogue: <script>actor</script> timed out"] == ["0", "1"]
    assert found["judgement: no JSON"] == ["1", "1"]


def test_costs_differences_of_configs_and_versions_stand_there(shown: OpenPage) -> None:
    assert rows(shown, "costs")["judge"] == ["7", "0", "0", "1,200", "0", "0", "0.50"]
    assert "0.25 USD per point of EPM-Q gained" in shown.page.inner_text("#costs")
    assert rows(shown, "configuration") == {
        "seed": ["0", "7"],
        "allow_test_cards": ["False", "True"],
        "contaminated": ["False", "True"],
    }
    assert rows(shown, "environment")["torch"] == ["2.0", "2.0"]


def test_page_prints_with_its_charts(shown: OpenPage) -> None:
    assert shown.page.pdf().startswith(b"%PDF")
    assert shown.problems == []


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_nothing_runs_over_the_edge_and_axe_finds_nothing(
    browser: Browser, report: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    with opened(browser, report, width=width, scheme=scheme) as found:
        found.page.wait_for_selector(".plot .main-svg")
        settled_at(found.page, width)
        assert found.violations() == []


def test_charts_are_light_and_whole_on_paper(browser: Browser, report: Path) -> None:
    with opened(browser, report, scheme="dark") as found:
        found.page.wait_for_selector(".plot .main-svg")
        found.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        found.page.emulate_media(media="print", color_scheme="dark")
        found.page.set_viewport_size({"width": 718, "height": 1000})  # A4 between margins of 1 cm.
        # Redrawn, which takes a while: white, and with no edge beyond the paper's.
        found.page.wait_for_function(
            """() => [...document.querySelectorAll(".plot .main-svg")].every(
                (one) => one.getBoundingClientRect().right <= 718)""",
            timeout=60_000,
        )
        found.page.wait_for_function(
            """() => [...document.querySelectorAll(".plot .main-svg:first-child")].every(
                (one) => one.style.background === "rgb(255, 255, 255)")""",
            timeout=60_000,
        )


def test_rows_of_zeros_are_one_sentence_and_phases_are_folded(shown: OpenPage) -> None:
    assert shown.page.inner_text("#failures .note") == "0 throughout: replies cut at max_tokens."
    assert "replies cut at max_tokens" not in rows(shown, "failures")
    assert shown.page.locator("#costs details:not([open])").all_inner_texts() == ["train", "train"]


def test_one_run_is_compared_with_the_default_and_lies_in_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "run", RunConfig(seed=3), dialogues=())
    with pytest.raises(SystemExit) as ended:
        main(["report", str(folder)])
    assert ended.value.code == 0
    assert f"run: 2 PNG files and {folder / 'report.html'}" in capsys.readouterr().out
    assert '<th scope="row">seed</th><td>3</td><td>0</td>' in (folder / "report.html").read_text()


def test_folder_that_is_no_run_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["report"], ["report", "turns"]):
        with pytest.raises(SystemExit) as ended:
            main([*command, str(tmp_path)])
        assert ended.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith(f"mica: {tmp_path} has no config.json") and error.count("\n") == 1
