"""A model's thinking reaches clients in a field of its own, and never sessions or the judge."""

from __future__ import annotations

import httpx
import openai
import pytest

from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.support.need_estimator import NeedEstimator
from mica_ray.serving.web_app import create_app
from tests.serving.local_service import served
from tests.serving.page_service import GenerousJudge
from tests.serving.scripted_backend import ScriptedBackend
from tests.small_policy import CHATML, small_tokenizer

SAMPLED = ScriptedBackend(words=("<thi", "nk>\nA lo", "ss.\n</th", "ink>\n\n", "That ", "hurts."))
OPENED = ScriptedBackend(words=("A lo", "ss.</think>", "That ", "hurts."), begins_in_thought=True)
PATH = "/v1/support/sessions"


@pytest.mark.parametrize("backend", [SAMPLED, OPENED], ids=["opened by the model", "opened by the prompt"])
async def test_the_official_client_reads_thinking_in_its_own_field(backend: ScriptedBackend) -> None:
    async with served(create_app(backend, ServeSettings())) as address:
        client = openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        messages = [{"role": "user", "content": "My dog died."}]
        whole = await client.chat.completions.create(model="support", messages=messages)  # pyright: ignore
        stream = await client.chat.completions.create(model="support", messages=messages, stream=True)  # pyright: ignore
        deltas = [chunk.choices[0].delta async for chunk in stream]
    message = whole.choices[0].message
    assert (message.content, getattr(message, "reasoning_content", "")) == ("That hurts.", "A loss.")
    assert "".join(delta.content or "" for delta in deltas) == "That hurts."
    assert "".join(getattr(delta, "reasoning_content", "") for delta in deltas) == "A loss."
    assert whole.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("is_open", [False, True])
async def test_a_reply_cut_off_inside_its_thought_is_empty_with_reason_length(is_open: bool) -> None:
    words = ("It seems ", "that </thi") if is_open else ("<think>", "It seems ", "that </thi")
    backend = ScriptedBackend(words=words, begins_in_thought=is_open)
    async with (
        served(create_app(backend, ServeSettings())) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        asked = {"messages": [{"role": "user", "content": "hello"}]}
        (choice,) = (await client.post("/v1/chat/completions", json=asked)).json()["choices"]
    assert choice["message"]["content"] == "" and choice["finish_reason"] == "length"
    # The incomplete closing mark is text: the reply ended before the mark did.
    assert choice["message"]["reasoning_content"] == "It seems that </thi"


FAMILIES = {
    "mistral": "[THINK]A loss.[/THINK]That hurts.",
    "harmony": "<|channel|>analysis<|message|>A loss.<|end|>"
    "<|start|>assistant<|channel|>final<|message|>That hurts.",
    "harmony without tokens": "analysisA loss.assistantfinalThat hurts.",
    "gemma": "<|channel>thought\nA loss.<channel|>That hurts.",
    "kimi": "◁think▷A loss.◁/think▷That hurts.",
    "command": "<|START_THINKING|>A loss.<|END_THINKING|><|START_RESPONSE|>That hurts.<|END_RESPONSE|>",
    "seed": "<seed:think>A loss.</seed:think>That hurts.",
    "capitals": "<THINK>A loss.</THINK>That hurts.",
    "template": "<musing>A loss.</musing>That hurts.",
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_thoughts_of_every_family_reach_clients_in_their_field(family: str, size: int) -> None:
    text = FAMILIES[family]
    words = tuple(text[begin : begin + size] for begin in range(0, len(text), size))
    app = create_app(ScriptedBackend(words=words, thinking_tags=("musing",)), ServeSettings())
    async with served(app) as address, httpx.AsyncClient(base_url=address) as client:
        asked = {"messages": [{"role": "user", "content": "hello"}]}
        (choice,) = (await client.post("/v1/chat/completions", json=asked)).json()["choices"]
    message = choice["message"]
    assert (message["content"], message["reasoning_content"]) == ("That hurts.", "A loss.")


async def test_a_quoted_mark_reaches_clients_as_text() -> None:
    text = "Some models write `<think>` and </think> around their thoughts."
    async with (
        served(create_app(ScriptedBackend(words=tuple(text)), ServeSettings())) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        asked = {"messages": [{"role": "user", "content": "hello"}]}
        (choice,) = (await client.post("/v1/chat/completions", json=asked)).json()["choices"]
    assert choice["message"]["content"] == text and "reasoning_content" not in choice["message"]


async def test_a_reply_without_thoughts_has_no_field_for_them() -> None:
    async with (
        served(create_app(ScriptedBackend(), ServeSettings())) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        asked = {"messages": [{"role": "user", "content": "hello"}]}
        (choice,) = (await client.post("/v1/chat/completions", json=asked)).json()["choices"]
    assert "reasoning_content" not in choice["message"]


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
async def test_a_session_keeps_no_thoughts(streams: bool) -> None:
    backend = ScriptedBackend(words=SAMPLED.words)
    async with (
        served(create_app(backend, ServeSettings(sessions=True))) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        place = f"{PATH}/{(await client.post(PATH, json={})).json()['id']}"
        body = {"content": "My dog died.", "stream": streams}
        answers = [await client.post(f"{place}/messages", json=body) for _ in range(2)]
        kept = (await client.get(place)).text
    assert not any("loss" in text for text in (kept, *(answer.text for answer in answers)))
    assert [message["content"] for message in backend.requests[1].messages][1] == "That hurts."


async def test_an_empty_reply_is_not_judged() -> None:
    estimate = NeedEstimator(GenerousJudge(), EMOTIONAL_SUPPORT)
    app = create_app(ScriptedBackend(words=("<think>hm",)), ServeSettings(sessions=True), estimator=estimate)
    async with served(app) as address, httpx.AsyncClient(base_url=address) as client:
        place = f"{PATH}/{(await client.post(PATH, json={})).json()['id']}"
        answer = (await client.post(f"{place}/messages", json={"content": "hello"})).json()
    assert answer["reply"]["content"] == "" and answer["need"]["state"] is None
    assert "The reply is empty" in answer["need"]["error"]


def test_a_template_says_whether_it_opens_the_thought() -> None:
    opening = CHATML.replace("assistant\n", "assistant\n<think>\n")
    for text, opens in ((opening, True), (opening.replace("<think>\n", "<think>\n\n</think>\n\n"), False)):
        template = ChatTemplate(small_tokenizer(text))
        assert template.opens_thought(template.prompt([{"role": "user", "content": "Hi"}])) is opens
