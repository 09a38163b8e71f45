"""A real browser for the tests of pages: headless Chromium that contacts no other server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
"""Containers have no user namespaces for the sandbox; the other switches stop calls to the vendor."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser until the block ends; skip the test where none is installed."""
    from playwright.sync_api import sync_playwright

    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine (Debian: apt install chromium)")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=list(QUIET))
        yield browser
        browser.close()


def settled_at(page: Page, width: int) -> None:
    """Wait until a page is as wide as its window: figures are redrawn some time after the window changes.

    Raises:
        TimeoutError: of playwright; something stays wider.
    """
    is_settled = "width => document.documentElement.scrollWidth === width"
    page.wait_for_function(is_settled, arg=width, timeout=60_000)
