"""A page works offline in a real browser, draws its figures and runs only its own scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import plotly.graph_objects as go
import pytest

from mica_ray.files import write_whole
from mica_ray.reporting.drawing.page import Section, page, plotted, rendered, script_json, table
from tests.reporting.open_page import HOSTILE, OpenPage, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

from tests.browser import chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def shown(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenPage]:
    figure = go.Figure(go.Scatter(x=[0, 1, 2], y=[1.0, float("nan"), 3.0], name=HOSTILE))
    path = tmp_path_factory.mktemp("page") / "page.html"
    sections = [
        Section("A table", table(["name", "value"], [[HOSTILE, "3"]])),
        Section("A figure", plotted(figure, title=HOSTILE, caption="three points")),
    ]
    write_whole(path, page(HOSTILE, sections, lead=HOSTILE))
    with opened(browser, path) as found:
        yield found


def test_page_draws_its_figure_without_network_or_error(shown: OpenPage) -> None:
    shown.page.wait_for_selector(".plot .scatterlayer .trace")
    assert shown.problems == []
    assert shown.page.locator(".plot .point").count() == 2  # The third is NaN.


def test_words_with_tags_stand_in_the_page_as_text(shown: OpenPage) -> None:
    assert shown.page.title() == HOSTILE
    assert shown.page.inner_text("h1") == HOSTILE
    assert shown.page.inner_text("tbody th") == HOSTILE
    assert shown.page.inner_text("h3") == HOSTILE
    assert shown.page.locator("img").count() == 0


def test_table_of_contents_leads_to_the_sections(shown: OpenPage) -> None:
    shown.page.click("nav >> text=A figure")
    assert shown.page.url.endswith("#a-figure")
    assert shown.page.inner_text("#a-figure h2") == "A figure"


def test_script_that_is_not_the_page_s_own_does_not_run(browser: Browser, tmp_path: Path) -> None:
    text = page("t", [Section("s", rendered("picture.html", {"source": "", "title": "", "caption": ""}))])
    path = tmp_path / "page.html"
    write_whole(path, text.replace("</body>", "<script>document.title = 'run'</script></body>"))
    with opened(browser, path) as found:
        assert found.page.title() == "t"
        assert any("Content Security Policy" in problem for problem in found.problems)


def test_json_for_scripts_holds_no_tag_and_no_line_separator() -> None:
    text = script_json({"a": "</script><!--\u2028&"})
    assert text == '{"a":"\\u003c/script\\u003e\\u003c!--\\u2028\\u0026"}'
    with pytest.raises(ValueError, match="JSON"):
        script_json(float("nan"))


def test_sections_with_one_anchor_and_uneven_tables_are_refused() -> None:
    body = table(["a"], [["1"]])
    with pytest.raises(ValueError, match="Titles of sections must differ"):
        page("t", [Section("A b", body), Section("a: B", body)])
    with pytest.raises(ValueError, match="Every row must have 2 cells, got"):
        table(["a", "b"], [["1"]])
