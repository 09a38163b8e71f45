"""What the tests of pages stand on: a page is opened, and its scripts and errors are seen."""

from __future__ import annotations

from tests.browser import chromium


def test_errors_of_a_page_are_seen() -> None:
    with chromium() as browser:
        page = browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(error.message))
        page.set_content("<h1 id=a>before</h1><script>a.textContent = 'after'; missing()</script>")
        assert page.inner_text("h1") == "after"
        assert errors == ["missing is not defined"]
