"""An endpoint that works, fails, hangs or returns garbage, over real HTTP on this machine."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace

import pytest

from mica_ray.chat.model import ChatError
from mica_ray.chat.openai_api import Endpoint, OpenAIChat
from mica_ray.types import Message, Sampling
from tests.chat.local_endpoint import DROP, HANG, TRICKLE, Answer, LocalEndpoint, Request, refusal

MESSAGES: list[Message] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}

# Patient enough for a loaded machine, with pauses far below a second.
QUICK = Endpoint(
    model="tiny",
    timeout_seconds=5,
    deadline_seconds=20,
    attempts=3,
    first_pause_seconds=0.01,
    longest_pause_seconds=0.05,
)


def endpoint(server: LocalEndpoint, **changes: object) -> Endpoint:
    return replace(QUICK, base_url=server.url, **changes)  # type: ignore[arg-type]


async def failure(server: LocalEndpoint, **changes: object) -> ChatError:
    chat = OpenAIChat(endpoint(server, **changes), "key")
    with pytest.raises(ChatError) as caught:
        await chat.chat(MESSAGES, Sampling())
    await chat.close()
    return caught.value


async def test_reply_holds_text_model_usage_and_time() -> None:
    async with LocalEndpoint(Answer("hi")) as server:
        reply = await OpenAIChat(endpoint(server), "secret").chat(MESSAGES, Sampling())
    assert (reply.text, reply.model, reply.prompt_tokens, reply.completion_tokens) == (
        "hi",
        "tiny-served",
        7,
        3,
    )
    assert reply.attempts == 1
    assert reply.seconds > 0
    assert server.keys == ["Bearer secret"]


async def test_request_carries_sampling_seed_and_schema() -> None:
    async with LocalEndpoint(Answer("{}")) as server:
        chat = OpenAIChat(
            endpoint(server, extra_body={"chat_template_kwargs": {"enable_thinking": False}}), "key"
        )
        sampling = Sampling(0.5, 0.9, 17, seed=3, stop=("\n",), presence_penalty=1.5)
        await chat.chat(MESSAGES, sampling, SCHEMA)
    request = server.requests[0]
    assert request["messages"] == MESSAGES
    assert (request["temperature"], request["top_p"], request["max_tokens"]) == (0.5, 0.9, 17)
    assert (request["seed"], request["stop"], request["presence_penalty"]) == (3, ["\n"], 1.5)
    assert request["response_format"]["json_schema"]["schema"] == SCHEMA
    assert request["chat_template_kwargs"] == {"enable_thinking": False}


async def test_request_without_seed_or_schema_does_not_name_them() -> None:
    async with LocalEndpoint(Answer()) as server:
        await OpenAIChat(endpoint(server, token_limit_name="max_completion_tokens"), "key").chat(
            MESSAGES, Sampling()
        )
    assert not {"seed", "stop", "response_format", "max_tokens"} & server.requests[0].keys()
    assert server.requests[0]["max_completion_tokens"] == 64


@pytest.mark.parametrize(("support", "sent"), [("json_object", {"type": "json_object"}), ("none", None)])
async def test_schema_is_sent_only_as_far_as_the_endpoint_takes_it(support: str, sent: object) -> None:
    async with LocalEndpoint(Answer("{}")) as server:
        await OpenAIChat(endpoint(server, structured_output=support), "key").chat(
            MESSAGES, Sampling(), SCHEMA
        )
    assert server.requests[0].get("response_format") == sent


@pytest.mark.parametrize(
    "first", [refusal(429, "slow down"), refusal(503, "loading"), DROP], ids=["429", "503", "drop"]
)
async def test_passing_problem_is_retried_and_counted(first: Answer) -> None:
    async with LocalEndpoint(first, Answer("hi")) as server:
        reply = await OpenAIChat(endpoint(server), "key").chat(MESSAGES, Sampling())
    assert (reply.text, reply.attempts) == ("hi", 2)


async def test_garbage_is_retried() -> None:
    async with LocalEndpoint(Answer(body="<html>oops"), Answer(body="[1, 2]"), Answer("hi")) as server:
        reply = await OpenAIChat(endpoint(server), "key").chat(MESSAGES, Sampling())
    assert (reply.text, reply.attempts) == ("hi", 3)


@pytest.mark.parametrize(
    "body", ["<html>oops", "[1, 2]", '{"choices": []}', '{"choices": [{"text": "x"}]}', "null", ""]
)
async def test_endless_garbage_is_a_content_error(body: str) -> None:
    async with LocalEndpoint(Answer(body=body)) as server:
        error = await failure(server)
    assert error.kind == "content"
    assert len(server.requests) == 3


async def test_overload_that_lasts_is_an_infrastructure_error_after_all_attempts() -> None:
    async with LocalEndpoint(refusal(429, "slow down")) as server:
        error = await failure(server)
    assert error.kind == "infrastructure"
    assert "slow down" in str(error)
    assert len(server.requests) == 3


async def test_pause_that_the_endpoint_asks_for_is_kept() -> None:
    async with LocalEndpoint(refusal(429, "slow down", **{"retry-after": "0.3"}), Answer("hi")) as server:
        chat = OpenAIChat(endpoint(server, longest_pause_seconds=1.0), "key")
        reply = await chat.chat(MESSAGES, Sampling())
    assert reply.seconds >= 0.3


async def test_pause_is_never_longer_than_the_longest() -> None:
    async with LocalEndpoint(refusal(429, "slow down", **{"retry-after": "15"}), Answer("hi")) as server:
        reply = await OpenAIChat(endpoint(server), "key").chat(MESSAGES, Sampling())
    assert reply.attempts == 2
    assert reply.seconds < 15


async def test_wait_beyond_the_deadline_fails_at_once_and_is_named() -> None:
    async with LocalEndpoint(refusal(429, "slow down", **{"retry-after": "3600"}), Answer("hi")) as server:
        error = await failure(server)
    assert (error.kind, len(server.requests)) == ("infrastructure", 1)
    assert "asks to wait 3600 s, which is after the deadline of 20 s" in str(error)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_refusal_is_not_retried_and_names_endpoint_model_and_remedy(status: int) -> None:
    async with LocalEndpoint(refusal(status, "no way")) as server:
        error = await failure(server)
        url = server.url
    assert error.kind == "refused"
    assert len(server.requests) == 1
    assert f"tiny at {url}" in str(error)
    assert "no way" in str(error)
    assert "\n" not in str(error)


async def test_account_without_credit_is_refused_at_once() -> None:
    async with LocalEndpoint(refusal(429, "quota", code="insufficient_quota")) as server:
        error = await failure(server)
    assert (error.kind, len(server.requests)) == ("refused", 1)


@pytest.mark.parametrize("silence", [HANG, TRICKLE], ids=["hang", "trickle"])
async def test_silent_endpoint_times_out_within_its_deadline(silence: Answer) -> None:
    started = time.monotonic()
    async with LocalEndpoint(silence) as server:
        error = await failure(server, timeout_seconds=0.3, deadline_seconds=0.8, attempts=100)
    assert error.kind == "timeout"
    # Far above 0.8 s for a loaded machine, far below the hour the server would take.
    assert time.monotonic() - started < 10


async def test_slow_first_answer_is_asked_again() -> None:
    async with LocalEndpoint(HANG, Answer("hi")) as server:
        reply = await OpenAIChat(endpoint(server, timeout_seconds=0.5), "key").chat(MESSAGES, Sampling())
    assert (reply.text, reply.attempts) == ("hi", 2)


async def test_no_server_is_an_infrastructure_error_with_a_remedy() -> None:
    async with LocalEndpoint(Answer()) as server:
        gone = server
    error = await failure(gone)
    assert error.kind == "infrastructure"
    assert "Check base_url and that the server runs" in str(error)


async def test_empty_answer_at_the_token_limit_says_what_to_change() -> None:
    async with LocalEndpoint(Answer(text=None, finish_reason="length")) as server:
        error = await failure(server)
    assert error.kind == "content"
    assert "Raise max_tokens" in str(error)


async def test_never_more_calls_at_once_than_allowed() -> None:
    async with LocalEndpoint(Answer("hi", after_seconds=0.05)) as server:
        chat = OpenAIChat(endpoint(server, max_concurrency=2), "key")
        replies = await asyncio.gather(*(chat.chat(MESSAGES, Sampling(seed=seed)) for seed in range(8)))
    assert len(replies) == 8
    assert server.most_in_flight == 2


async def test_limit_of_the_endpoint_comes_before_that_of_the_run() -> None:
    for limit, expected in ((None, 5), (2, 2)):
        async with LocalEndpoint(Answer("hi", after_seconds=0.05)) as server:
            chat = OpenAIChat(endpoint(server, max_concurrency=limit), "key", slots=5)
            await asyncio.gather(*(chat.chat(MESSAGES, Sampling(seed=seed)) for seed in range(12)))
        assert server.most_in_flight == expected


async def test_cancelled_call_gives_its_slot_back() -> None:
    async with LocalEndpoint(HANG, Answer("hi")) as server:
        chat = OpenAIChat(endpoint(server, max_concurrency=1), "key")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await chat.chat(MESSAGES, Sampling())
        reply = await chat.chat(MESSAGES, Sampling())
    assert reply.text == "hi"


async def test_thinking_is_kept_apart_from_what_is_said() -> None:
    message = {"role": "assistant", "content": "Hi.", "reasoning_content": "They greet me."}
    body = json.dumps({"choices": [{"message": message}]})
    async with LocalEndpoint(Answer("<think>A greeting.</think>\n\nHello."), Answer(body=body)) as server:
        chat = OpenAIChat(endpoint(server), "key")
        replies = [await chat.chat(MESSAGES, Sampling()) for _ in range(2)]
    assert [(reply.text, reply.thinking) for reply in replies] == [
        ("Hello.", "A greeting."),
        ("Hi.", "They greet me."),
    ]


async def test_answer_cut_off_inside_its_thinking_is_a_content_error_that_was_paid_for() -> None:
    async with LocalEndpoint(Answer("<think>Well, let me", finish_reason="length")) as server:
        error = await failure(server)
    assert (error.kind, len(server.requests)) == ("content", 1)
    assert "Raise max_tokens" in str(error)
    assert (error.prompt_tokens, error.completion_tokens) == (7, 3)


async def test_outage_costs_one_probe_a_pause_and_no_retries() -> None:
    down = True

    async def respond(request: Request) -> Answer:
        # The wait that it asks for leaves all four failures time to arrive before a second attempt.
        return refusal(503, "loading", **{"retry-after": "0.5"}) if down else Answer("hi")

    limits = {"breaker_failures": 4, "breaker_pause_seconds": 2.0, "longest_pause_seconds": 0.5}
    async with LocalEndpoint(respond=respond) as server:
        chat = OpenAIChat(endpoint(server, attempts=2, max_concurrency=20, **limits), "key")
        calls = [asyncio.create_task(chat.chat(MESSAGES, Sampling(seed=seed))) for seed in range(4)]
        while len(server.requests) < 4:  # The test's timeout ends it on a fault.
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.8)
        # Four failures opened it; the second attempts wait, and so does everybody else.
        assert len(server.requests) == 4
        calls += [asyncio.create_task(chat.chat(MESSAGES, Sampling(seed=seed))) for seed in range(4, 20)]
        await asyncio.sleep(0.05)
        assert len(server.requests) == 4
        down = False
        replies = await asyncio.gather(*calls)
    assert [reply.text for reply in replies] == ["hi"] * 20
    assert len(server.requests) == 24


async def test_call_that_an_outage_outlasts_fails_as_infrastructure() -> None:
    async with LocalEndpoint(refusal(503, "loading")) as server:
        error = await failure(server, breaker_failures=1, breaker_pause_seconds=60.0)
    assert (error.kind, len(server.requests)) == ("infrastructure", 1)
    assert "paused after 1 consecutive failures" in str(error)


@pytest.mark.parametrize("bad", [Answer(body="<html>oops"), refusal(400, "no")], ids=["content", "refused"])
async def test_answers_that_cannot_be_used_never_open_the_breaker(bad: Answer) -> None:
    async with LocalEndpoint(*[bad] * 6, Answer("hi")) as server:
        chat = OpenAIChat(endpoint(server, attempts=1, breaker_failures=2), "key")
        for _ in range(6):
            with pytest.raises(ChatError):
                await chat.chat(MESSAGES, Sampling())
        assert (await chat.chat(MESSAGES, Sampling())).text == "hi"


async def test_requests_keep_to_their_rate() -> None:
    async with LocalEndpoint(Answer("hi")) as server:
        chat = OpenAIChat(endpoint(server, requests_per_minute=1200), "key")
        started = time.monotonic()
        await asyncio.gather(*(chat.chat(MESSAGES, Sampling(seed=seed)) for seed in range(6)))
    # One every 50 ms: the sixth begins after 250 ms.
    assert time.monotonic() - started >= 0.25


async def test_tokens_keep_to_their_rate_as_they_were_used() -> None:
    async with LocalEndpoint(Answer("hi")) as server:
        chat = OpenAIChat(endpoint(server, tokens_per_minute=3000), "key")
        started = time.monotonic()
        # Estimated at about 70 tokens, which would be 1.4 s apart; each answer takes 10, which is 0.2 s.
        for _ in range(3):
            await chat.chat(MESSAGES, Sampling())
    assert 0.4 <= time.monotonic() - started < 2.8


async def test_turn_after_the_deadline_is_refused_at_once() -> None:
    async with LocalEndpoint(Answer("hi")) as server:
        chat = OpenAIChat(endpoint(server, requests_per_minute=1), "key")
        await chat.chat(MESSAGES, Sampling())
        with pytest.raises(ChatError, match=r"requests_per_minute=1") as caught:
            await chat.chat(MESSAGES, Sampling())
    assert caught.value.kind == "timeout"


def test_missing_key_names_the_variable() -> None:
    with pytest.raises(ValueError, match="Set MY_KEY"):
        OpenAIChat(Endpoint("tiny", api_key_env="MY_KEY"), "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attempts", 0),
        ("max_concurrency", 0),
        ("timeout_seconds", 0.0),
        ("deadline_seconds", -1.0),
        ("requests_per_minute", 0.0),
        ("breaker_failures", 0),
        ("price_per_million_prompt_tokens", -1.0),
    ],
)
def test_impossible_endpoint_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        replace(QUICK, **{name: value})  # type: ignore[arg-type]
