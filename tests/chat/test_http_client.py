"""Proxies of the environment: used, bypassed, or named in the error."""

from __future__ import annotations

import asyncio
import gc

import pytest

from mica_ray.chat.model import ChatError
from mica_ray.chat.openai_api import Endpoint, OpenAIChat
from mica_ray.config import ConfigError, RoleConfig
from mica_ray.launch.world import check_roles
from mica_ray.types import Sampling
from tests.chat.local_endpoint import Answer, LocalEndpoint
from tests.chat.proxy_servers import HttpProxy, SocksProxy
from tests.chat.test_openai_api import MESSAGES, endpoint

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def reply_text(server: LocalEndpoint, **changes: object) -> str:
    chat = OpenAIChat(endpoint(server, **changes), "key")
    try:
        return (await chat.chat(MESSAGES, Sampling())).text
    finally:
        await chat.close()


PROXIES = {"http": HttpProxy, "socks5": SocksProxy}


@pytest.mark.parametrize(
    ("kind", "variable"),
    [
        ("http", "HTTP_PROXY"), ("http", "http_proxy"), ("http", "ALL_PROXY"), ("socks5", "ALL_PROXY"),
        ("socks5", "all_proxy"), ("socks5", "HTTP_PROXY"),
    ],
)  # fmt: skip
async def test_call_goes_through_the_proxy(kind: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with PROXIES[kind]() as proxy, LocalEndpoint(Answer("hi")) as server:
        monkeypatch.setenv(variable, proxy.address)
        assert await reply_text(server) == "hi"
    assert (proxy.num_passed, len(server.requests)) == (1, 1)


async def test_socks5h_and_an_address_without_scheme_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with SocksProxy() as socks, HttpProxy() as http, LocalEndpoint(Answer("hi")) as server:
        monkeypatch.setenv("ALL_PROXY", f"socks5h://127.0.0.1:{socks.port}")
        assert await reply_text(server) == "hi"
        monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{http.port}")
        assert await reply_text(server) == "hi"
    assert (socks.num_passed, http.num_passed) == (1, 1)


@pytest.mark.parametrize("bypass", ["127.0.0.1", "*", "example.org,127.0.0.1"])
async def test_no_proxy_is_obeyed(bypass: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with HttpProxy() as proxy, LocalEndpoint(Answer("hi")) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        monkeypatch.setenv("NO_PROXY", bypass)
        assert await reply_text(server) == "hi"
    assert proxy.num_passed == 0


@pytest.mark.parametrize("kind", PROXIES)
async def test_login_of_a_proxy_is_sent_and_never_shown(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = "ann:open-sesame-42", "ann:close-sesame-24"
    async with PROXIES[kind](right) as proxy, LocalEndpoint(Answer("hi")) as server:
        monkeypatch.setenv("ALL_PROXY", proxy.address_with(right))
        assert await reply_text(server) == "hi"
        monkeypatch.setenv("ALL_PROXY", proxy.address_with(wrong))
        with pytest.raises(ChatError) as caught:
            await reply_text(server, attempts=1)
    assert (proxy.num_passed, proxy.num_rejected) == (1, 1)
    assert f"ALL_PROXY={proxy.scheme}://[redacted]@127.0.0.1:{proxy.port}" in str(caught.value)
    assert "login" in str(caught.value) and "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("HTTP_PROXY", "http://127.0.0.1:9"), ("http_proxy", "http://127.0.0.1:9"),
        ("ALL_PROXY", "socks5://127.0.0.1:9"), ("all_proxy", "http://127.0.0.1:9"),
    ],
)  # fmt: skip
async def test_proxy_that_does_not_run_is_named(
    variable: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, address)
    async with LocalEndpoint(Answer("hi")) as server:
        with pytest.raises(ChatError) as caught:
            await reply_text(server, attempts=1)
    assert caught.value.kind == "infrastructure"
    assert f"no connection through the proxy {variable}={address} (" in str(caught.value)
    assert "add 127.0.0.1 to NO_PROXY" in str(caught.value)


async def test_https_goes_through_its_own_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:7")
    chat = OpenAIChat(Endpoint("m", base_url="https://example.invalid/v1", attempts=1), "key")
    with pytest.raises(ChatError, match=r"through the proxy HTTPS_PROXY=http://127\.0\.0\.1:9 "):
        await chat.chat(MESSAGES, Sampling())


@pytest.mark.parametrize(
    "address",
    [
        "ftp://127.0.0.1:1",
        "socks4://127.0.0.1:1",
        "http://127.0.0.1:65536",
        "http://127.0.0.1:0",
        "http://[::1",
        "http://",
        "socks://h:1",
    ],
)
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY", "https_proxy"])
def test_proxy_that_cannot_be_used_fails_the_check_in_one_line(
    variable: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, address)
    roles = RoleConfig(judge=Endpoint("m", base_url="http://127.0.0.1:1/v1", api_key_env="K"))
    with pytest.raises(ConfigError) as caught:
        check_roles(roles, {"K": "any"})
    assert str(caught.value).startswith("roles.judge: m at http://127.0.0.1:1/v1: ")
    assert f"Correct the proxies in {variable}={address}." in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_proxy_that_cannot_be_used_leaves_no_failing_task_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problems: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    monkeypatch.setenv("ALL_PROXY", "socks4://127.0.0.1:1")
    with pytest.raises(ValueError, match="Correct the proxies"):
        OpenAIChat(Endpoint("m", base_url="http://example.invalid/v1"), "key")
    gc.collect()
    await asyncio.sleep(0.01)
    gc.collect()
    assert problems == []
