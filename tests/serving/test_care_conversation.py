"""The care check in a conversation: what it reads, and whose words the help line is."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from mica_ray.safety.check import CareFinding, CareSteps, HelpLine, HelpLines
from mica_ray.safety.rules import CareRules, RuleCare
from mica_ray.serving.http.backend import BackendError
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.web_app import create_app
from tests.serving.scripted_backend import ScriptedBackend

ASK = "/v1/chat/completions"
HELP = HelpLines().text("en", "self_harm")
CARE = RuleCare(CareRules.read(), HelpLines())
DANGER = ("user", "I want to kill myself.")


def asked(backend: ScriptedBackend, care: Any = CARE, **settings: Any) -> httpx.AsyncClient:
    app = create_app(backend, ServeSettings(**settings), care=care)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


def body(*messages: tuple[str, str], **fields: object) -> dict[str, object]:
    return {"messages": [{"role": role, "content": content} for role, content in messages], **fields}


@pytest.mark.parametrize(
    "messages",
    [
        [DANGER],
        [DANGER, ("system", "Be kind."), ("user", "ok")],
        [DANGER, ("developer", "Be kind."), ("user", "ok")],
        [DANGER, ("system", "a"), ("system", "b"), ("developer", "c"), ("user", "ok")],
        [DANGER, ("assistant", ""), ("user", "ok")],
        [DANGER, ("assistant", " \n"), ("user", "ok")],
        [("user", "I want to"), ("user", "kill myself")],
        [("user", "I want to"), ("system", "Be kind."), ("user", "kill myself")],
        [("assistant", "Hello."), DANGER, ("user", "ok")],
    ],
    ids=str,
)
async def test_no_other_message_hides_what_the_person_wrote(messages: list[tuple[str, str]]) -> None:
    async with asked(ScriptedBackend()) as client:
        answer = await client.post(ASK, json=body(*messages))
    assert answer.headers["x-mica-care"] == "self_harm"
    assert answer.json()["choices"][0]["message"]["content"] == f"{HELP}\n\nThat sounds heavy."


async def test_what_was_answered_raises_no_second_alarm() -> None:
    async with asked(ScriptedBackend()) as client:
        answer = await client.post(
            ASK, json=body(DANGER, ("assistant", "I am here."), ("user", "Thank you."))
        )
    assert "x-mica-care" not in answer.headers


async def test_the_models_history_has_no_help_line() -> None:
    backend = ScriptedBackend()
    async with asked(backend) as client:
        sent = [DANGER]
        for text in ("Thank you.", "I am better."):
            reply = (await client.post(ASK, json=body(*sent))).json()["choices"][0]["message"]["content"]
            sent += [("assistant", reply), ("user", text)]
        await client.post(ASK, json=body(*sent))
    assert sent[1][1].startswith(HELP)
    contents = [[message["content"] for message in request.messages] for request in backend.requests]
    assert contents[2] == [
        DANGER[1],
        "That sounds heavy.",
        "Thank you.",
        "That sounds heavy.",
        "I am better.",
    ]
    assert not any(HELP in text for texts in contents for text in texts)


async def test_a_reply_that_was_only_a_help_line_is_no_reply_of_the_model() -> None:
    backend = ScriptedBackend()
    async with asked(backend) as client:
        await client.post(ASK, json=body(("user", "one"), ("assistant", HELP), ("user", "two")))
        # Messages that a client sends like this reach the model like this.
        await client.post(ASK, json=body(("user", "one"), ("user", "two")))
    assert [message["content"] for message in backend.requests[0].messages] == ["one\n\ntwo"]
    assert [message["content"] for message in backend.requests[1].messages] == ["one", "two"]


def test_help_lines_of_every_locale_are_recognized_the_longest_first() -> None:
    lines = HelpLines(
        (HelpLine("en", "Call."), HelpLine("de", "Call. Bitte."), HelpLine("fr", "x", "medical"))
    )
    cases = {
        "Call.\n\nYes.": "Yes.",
        "Call. Bitte.\n\nYes.": "Yes.",
        "x": "",
        "Yes. Call.": "Yes. Call.",
        "": "",
    }
    assert {text: lines.removed_from(text) for text in cases} == cases


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BackendError("the text", kind="unavailable"), "unavailable"),
        (BackendError("the text", kind="too_long"), "context_length_exceeded"),
        (BackendError("the text", kind="busy"), "overloaded"),
        (RuntimeError("the text"), "internal"),
    ],
    ids=lambda value: str(value),
)
async def test_a_failure_behind_a_help_line_is_counted_and_logged(
    error: Any, reason: str, streams: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def count() -> float:
        return REGISTRY.get_sample_value("mica_care_without_reply_total", {"reason": reason}) or 0.0

    before = count()
    with caplog.at_level(logging.ERROR):
        async with asked(ScriptedBackend(error=error)) as client:
            answer = await client.post(ASK, json=body(DANGER, stream=streams))
    assert answer.status_code == 200 and (HELP in answer.text or json.dumps(HELP)[1:-1] in answer.text)
    assert count() == before + 1
    assert "after a help line" in caplog.text and "the text" not in caplog.text + answer.text


class Slow:
    """A check that never ends."""

    def check(self, text: str, locale: str) -> CareFinding | None:
        raise AssertionError("a service runs the check in steps")

    def steps(self, text: str, locale: str) -> CareSteps:
        while True:
            yield

    def help_line(self, locale: str) -> str:
        return f"help ({locale})"

    def without_help_line(self, text: str) -> str:
        return text


async def test_a_check_that_is_too_slow_adds_the_help_line_and_is_counted() -> None:
    before = REGISTRY.get_sample_value("mica_care_unchecked_total") or 0.0
    async with asked(ScriptedBackend(), Slow(), care_seconds=0.05) as client:
        answer = await client.post(ASK, json=body(("user", "hello")))
    assert answer.headers["x-mica-care"] == "unchecked"
    assert answer.json()["choices"][0]["message"]["content"] == "help (en)\n\nThat sounds heavy."
    assert REGISTRY.get_sample_value("mica_care_unchecked_total") == before + 1
