"""The chat page in a real browser, on a real server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe

from mica_ray.safety.check import HelpLines
from mica_ray.safety.rules import CareRules, RuleCare
from mica_ray.serving.http.api_keys import KeyFile
from mica_ray.serving.http.backend import ChatBackend
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.support.need_estimator import NeedEstimator
from mica_ray.serving.web_app import create_app
from tests.browser import chromium
from tests.dialogue.tiny_domain import DOMAIN
from tests.serving.page_service import EchoBackend, GenerousJudge, threaded
from tests.serving.scripted_backend import ScriptedBackend

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PHONE, DESKTOP = (390, 844), (1280, 800)
DANGER = "I want to kill myself"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@contextmanager
def opened(
    browser: Browser,
    backend: ChatBackend,
    settings: ServeSettings | None = None,
    *,
    size: tuple[int, int] = DESKTOP,
    scheme: Literal["light", "dark"] = "light",
    is_judged: bool = False,
) -> Iterator[Page]:
    """Open the page; at the end check that it had no errors and sent nothing to another host."""
    app = create_app(
        backend,
        settings or ServeSettings(sessions=is_judged),
        care=RuleCare(CareRules.read(), HelpLines()),
        estimator=NeedEstimator(GenerousJudge(), DOMAIN) if is_judged else None,
    )
    with threaded(app) as address:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        context.set_default_timeout(120_000)  # milliseconds; a passing test never waits that long
        page = context.new_page()
        problems: list[str] = []
        # Chromium logs responses with an error status to the console; some tests expect those.
        page.on("console", lambda m: problems.append(m.text) if "Failed to load" not in m.text else None)
        page.on("pageerror", lambda error: problems.append(error.message))
        page.on("request", lambda r: None if r.url.startswith(address) else problems.append(r.url))
        page.goto(address)
        yield page
        context.close()
        assert problems == []


def say(page: Page, text: str) -> None:
    page.fill("#message", text)
    page.keyboard.press("Enter")


def wait_for_first_piece(page: Page) -> None:
    """Wait for the first half of a reply; the page's policy forbids `wait_for_function`."""
    half = re.compile(r"^I am trained\.\s*$")
    page.locator(".reply.streaming .text").filter(has_text=half).wait_for()


def replies(page: Page) -> list[str]:
    return [text.strip() for text in page.locator(".reply .text").all_inner_texts()]


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_a_conversation_streams_shows_the_state_and_survives_a_reload(
    browser: Browser, size: tuple[int, int]
) -> None:
    backend = EchoBackend()
    with opened(browser, backend, size=size, is_judged=True) as page:
        backend.gate.clear()
        say(page, "The move left me lonely.")
        wait_for_first_piece(page)
        assert page.locator("#stop").is_visible()
        backend.gate.set()
        page.wait_for_selector(".reply.done")
        say(page, "And it rains.")
        page.wait_for_selector(".turn:nth-child(2) .reply.done")
        # P_0 = (-1, -2, -2), one point on each axis a turn: D = sqrt(0 + 1 + 1) at the start, 0 now.
        shown = "After 2 turns: C 1, A 0, P 0. Distance 1.4 at the start, 0 now."
        assert page.get_attribute("#chart svg", "aria-label") == shown
        said = replies(page)
        assert said == [
            "I am trained. You said: The move left me lonely.",
            "I am trained. You said: And it rains.",
        ]
        page.reload()
        assert replies(page) == said
        assert page.get_attribute("#chart svg", "aria-label") == shown
        say(page, "Still here.")
        page.wait_for_selector(".turn:nth-child(3) .reply.done")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [len(request.messages) for request in backend.requests] == [1, 3, 5]  # The session continued.


@pytest.mark.parametrize("is_judged", [False, True], ids=["without a session", "in a session"])
def test_a_help_line_is_shown_apart_from_the_models_text(browser: Browser, is_judged: bool) -> None:
    backend = EchoBackend()
    with opened(browser, backend, is_judged=is_judged) as page:
        say(page, DANGER)
        page.wait_for_selector(".reply.done")
        assert HelpLines().text("en", "self_harm") in page.inner_text(".lead")
        assert replies(page) == [f"I am trained. You said: {DANGER}"]
        assert "A machine, not a therapist." in page.inner_text("#machine")


def test_markup_stays_text(browser: Browser) -> None:
    markup = "<script>window.taken = 1</script><img src=x onerror='window.taken = 1'><b>bold</b>"
    with opened(browser, EchoBackend()) as page:
        say(page, markup)
        page.wait_for_selector(".reply.done")
        assert markup in page.inner_text(".said")
        assert replies(page) == [f"I am trained. You said: {markup}"]
        page.reload()
        assert replies(page) == [f"I am trained. You said: {markup}"]
        assert page.evaluate("window.taken ?? 'untouched'") == "untouched"
        assert page.locator("#talk img, #talk b, #talk script").count() == 0


def test_two_models_are_compared_blind_and_the_vote_is_kept(browser: Browser, tmp_path: Path) -> None:
    votes = tmp_path / "votes.jsonl"
    backend = EchoBackend(names=("trained", "base"))
    with opened(browser, backend, ServeSettings(votes_file=votes)) as page:
        page.check("#compare")
        say(page, "Hello.")
        page.wait_for_selector(".vote button")
        assert page.locator(".who").all_inner_texts() == ["Left", "Right"]
        right = replies(page)[1]
        page.get_by_role("button", name="Right", exact=True).click()
        page.wait_for_selector(".reply.taken")
        (vote,) = [json.loads(line) for line in votes.read_text().splitlines()]
        assert vote["choice"] == "right"
        assert right == f"I am {vote['right']}. You said: Hello."
        assert page.locator(".who").all_inner_texts() == [f"Left: {vote['left']}", f"Right: {vote['right']}"]
        say(page, "Go on.")
        page.wait_for_selector(".turn:nth-child(2) .vote button")
    # Both models get the preferred reply.
    assert [request.messages[1]["content"] for request in backend.requests[2:]] == [right, right]


def test_a_reply_that_failed_is_tried_again(browser: Browser) -> None:
    with opened(browser, EchoBackend(failures=1)) as page:
        say(page, "Hello.")
        page.wait_for_selector(".reply.failed")
        assert "Try again" in page.inner_text(".note")
        page.get_by_role("button", name="Try again").click()
        page.wait_for_selector(".reply.done")
        assert replies(page) == ["I am trained. You said: Hello."]


def test_a_reply_can_be_stopped(browser: Browser) -> None:
    backend = EchoBackend()
    with opened(browser, backend) as page:
        backend.gate.clear()
        say(page, "Hello.")
        wait_for_first_piece(page)
        page.click("#stop")
        page.wait_for_selector(".reply.stopped")
        backend.gate.set()
        assert page.locator("#send").is_visible()


def test_a_key_is_asked_for_and_stays_in_the_tab(browser: Browser, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    key = keys.add("ada")
    with opened(browser, EchoBackend(), ServeSettings(keys_file=tmp_path / "keys.json")) as page:
        page.wait_for_selector("#key-dialog[open]")
        page.fill("#key", key)
        page.keyboard.press("Enter")
        page.wait_for_selector("#key-dialog:not([open])", state="attached")
        say(page, "Hello.")
        page.wait_for_selector(".reply.done")
        assert page.evaluate("(key) => sessionStorage.getItem('mica.key') === key", key)
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        assert key not in page.content()


def test_everything_is_reachable_by_keyboard(browser: Browser) -> None:
    with opened(browser, EchoBackend(names=("trained", "base"))) as page:
        page.wait_for_selector("#models:not([hidden])")
        assert page.evaluate("document.activeElement.id") == "message"
        page.keyboard.type("Line one")
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("line two")
        page.keyboard.press("Enter")
        page.wait_for_selector(".reply.done")
        assert page.inner_text(".said").endswith("Line one\nline two")
        reached: list[str] = []
        for _ in range(12):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
        assert {"skip", "model", "compare", "new", "key-open", "talk", "message", "send"} <= set(reached)
        page.focus("#key-open")
        page.keyboard.press("Enter")
        page.wait_for_selector("#key-dialog[open]")
        page.keyboard.press("Escape")
        # The dialog's close event, which moves the focus, follows the removal of its attribute.
        page.wait_for_selector("#message:focus")
        assert page.locator("#key-dialog:not([open])").count() == 1
        page.focus("#new")
        page.keyboard.press("Enter")
        assert page.locator(".turn").count() == 0
        assert page.locator("#welcome").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_axe_finds_nothing(browser: Browser, size: tuple[int, int], scheme: Literal["light", "dark"]) -> None:
    backend = EchoBackend(names=("trained", "base"))
    with opened(browser, backend, size=size, scheme=scheme, is_judged=True) as page:
        page.wait_for_selector("#models:not([hidden])")
        found = violations(page)
        say(page, DANGER)
        page.wait_for_selector(".reply.done")
        page.wait_for_selector("#chart svg")
        page.click("#state details details summary")
        found += violations(page)
        page.check("#compare")
        say(page, "Hello.")
        page.wait_for_selector(".vote button")
        found += violations(page)
        page.click("#key-open")
        found += violations(page)
        assert found == []


def violations(page: Page) -> list[str]:
    """Return the violations of WCAG 2.2 A and AA and of best practices that axe finds."""
    found = Axe().run(page).response["violations"]
    return [f"{item['id']}: {node['html'][:120]}" for item in found for node in item["nodes"]]


def test_thinking_is_not_shown(browser: Browser) -> None:
    backend = ScriptedBackend(words=("<thi", "nk>SECRET</th", "ink>\n\n", "That ", "hurts."))
    with opened(browser, backend) as page:
        say(page, "My dog died.")
        page.locator(".reply.done .text").filter(has_text=re.compile(r"^That hurts\.$")).wait_for()
        assert "SECRET" not in page.content()
        backend.words = ("<think>", "SECRET")
        say(page, "And my cat.")
        page.locator(".reply.failed .note").filter(has_text="returned no text").wait_for()
        assert "SECRET" not in page.content()
