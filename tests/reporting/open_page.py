"""A local page in a browser without a network, and all problems that the browser reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = "</script><script>document.title = 'owned'</script><img src=x onerror=alert(1)> & \"'quoted'\""


@dataclass
class OpenPage:
    page: Page
    problems: list[str] = field(default_factory=list)
    """Script errors, console warnings and errors, and requests for anything but the file."""

    def violations(self) -> list[str]:
        """Problems that axe finds with all parts expanded: WCAG 2.2 A and AA, and its best practices."""
        from axe_playwright_python.sync_playwright import Axe

        self.page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        found = Axe().run(self.page).response["violations"]
        return [f"{item['id']}: {node['html'][:120]}" for item in found for node in item["nodes"]]

    @property
    def focus(self) -> tuple[str, str]:
        """The element with keyboard focus, and the style of its outline."""
        element, line = self.page.evaluate(
            "[document.activeElement, getComputedStyle(document.activeElement)].map("
            "(one, number) => number ? one.outlineStyle : one.id || one.tagName.toLowerCase())"
        )
        return element, line


@contextmanager
def opened(
    browser: Browser, path: Path, *, width: int = 1280, scheme: Literal["light", "dark"] = "light"
) -> Iterator[OpenPage]:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    context.set_offline(True)
    context.set_default_timeout(120_000)  # Milliseconds: a loaded machine takes long over 5 MB of script.
    found = OpenPage(context.new_page())
    found.page.on("pageerror", lambda error: found.problems.append(error.message))
    found.page.on(
        "console",
        lambda line: found.problems.append(line.text) if line.type in ("error", "warning") else None,
    )
    found.page.on(
        "request",
        lambda request: (
            found.problems.append(request.url)
            if not request.url.startswith(("file:", "data:", "blob:"))
            else None
        ),
    )
    found.page.goto(path.as_uri())
    yield found
    context.close()
