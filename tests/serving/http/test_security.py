"""Requests the service must reject; logs and errors must quote no key and no message."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from mica_ray.serving.http.api_keys import KeyFile
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.web_app import create_app
from tests.serving.local_service import served
from tests.serving.scripted_backend import ScriptedBackend

SECRET = "my-brother-must-not-know-7Q0"
SCRIPT = f"<script>alert('{SECRET}')</script>"


def said(text: str = "hello", **fields: object) -> dict[str, object]:
    return {"model": "support", "messages": [{"role": "user", "content": text}], **fields}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def raw(address: str, request: bytes) -> bytes:
    """Send raw bytes, which an HTTP client would reject."""
    place = urlsplit(address)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return answer


async def test_only_a_good_key_opens_the_service(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="mica_ray")
    keys = KeyFile(tmp_path / "keys.json")
    good, other = keys.add("page"), keys.add("colleague")
    app = create_app(ScriptedBackend(), ServeSettings(keys_file=keys.path))
    async with served(app) as address, httpx.AsyncClient(base_url=address) as client:
        ask = "/v1/chat/completions"
        missing = await client.post(ask, json=said(SECRET))
        wrong = await client.post(ask, json=said(SECRET), headers=bearer("mica-" + "A" * 43))
        almost = await client.post(ask, json=said(SECRET), headers=bearer(good[:-1]))
        assert (await client.post(ask, json=said(), headers=bearer(good))).status_code == 200
        assert (await client.post(ask, json=said(), headers=bearer(other))).status_code == 200
        keys.revoke("page")  # The running service reads the file again.
        revoked = await client.post(ask, json=said(SECRET), headers=bearer(good))
        assert (await client.post(ask, json=said(), headers=bearer(other))).status_code == 200
    codes = ["missing_api_key", "invalid_api_key", "invalid_api_key", "invalid_api_key"]
    answers = [missing, wrong, almost, revoked]
    assert [answer.status_code for answer in answers] == [401] * 4
    assert [answer.json()["error"]["code"] for answer in answers] == codes
    assert missing.headers["www-authenticate"] == "Bearer"
    stored = keys.path.read_text()
    for secret in (good, other, SECRET):
        assert secret not in caplog.text
        assert secret not in stored
        assert not any(secret in answer.text for answer in answers)
    assert keys.path.stat().st_mode & 0o077 == 0


async def test_a_key_over_its_rate_gets_429_and_retry_after(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    busy, calm = keys.add("busy"), keys.add("calm")
    app = create_app(ScriptedBackend(), ServeSettings(keys_file=keys.path, requests_per_minute=2))
    async with served(app) as address, httpx.AsyncClient(base_url=address) as client:
        answers = [await client.get("/v1/models", headers=bearer(busy)) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        # 2 a minute is one every 30 s.
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 30
        assert (await client.get("/v1/models", headers=bearer(calm))).status_code == 200


async def test_an_oversized_body_is_refused_announced_or_not() -> None:
    app = create_app(ScriptedBackend(), ServeSettings(max_body_bytes=1000))
    async with served(app) as address, httpx.AsyncClient(base_url=address) as client:
        announced = await client.post("/v1/chat/completions", json=said("x" * 2000))

        async def pieces():
            yield b'{"messages": "'
            for _ in range(20):
                yield b"x" * 100

        headers = {"content-type": "application/json"}
        arriving = await client.post("/v1/chat/completions", content=pieces(), headers=headers)
    for answer in (announced, arriving):
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "body_too_large"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'"text"', b"\xff\xfe", b"[" * 50_000, b'{"messages": {}}', b'{"messages": []}'],
    ids=["empty", "open", "list", "text", "bytes", "deep", "mapping", "none"],
)
async def test_a_malformed_body_is_refused(content: bytes) -> None:
    async with (
        served(create_app(ScriptedBackend(), ServeSettings())) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        headers = {"content-type": "application/json"}
        answer = await client.post("/v1/chat/completions", content=content, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_a_history_of_ten_thousand_messages_is_refused() -> None:
    backend = ScriptedBackend()
    app = create_app(backend, ServeSettings(max_body_bytes=10_000_000))
    history = [{"role": ("user", "assistant")[i % 2], "content": SECRET} for i in range(9_999)]
    async with served(app) as address, httpx.AsyncClient(base_url=address) as client:
        answer = await client.post("/v1/chat/completions", json={"messages": history})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_many_messages")
    assert SECRET not in answer.text
    assert backend.requests == []


FIELDS = {
    "model": SCRIPT,
    "messages": SCRIPT,
    "stream": SCRIPT,
    "max_tokens": SCRIPT,
    "temperature": SCRIPT,
    "top_p": SCRIPT,
    "seed": SCRIPT,
    "n": SCRIPT,
    "tools": SCRIPT,
    "response_format": SCRIPT,
    "metadata": SCRIPT,
}


@pytest.mark.parametrize("field", FIELDS, ids=lambda name: name[:8])
async def test_script_tags_in_a_field_are_not_sent_back_as_a_page(
    field: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        served(create_app(ScriptedBackend(), ServeSettings())) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        answer = await client.post("/v1/chat/completions", json=said(**{field: FIELDS[field]}))
    assert answer.status_code in (400, 404)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert SECRET not in answer.text
    assert SECRET not in caplog.text


async def test_the_name_of_an_unknown_field_is_neither_sent_back_nor_logged_if_it_could_be_a_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        served(create_app(ScriptedBackend(), ServeSettings())) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        answer = await client.post("/v1/chat/completions", json=said() | {SCRIPT: 1})
    assert answer.status_code == 200
    assert SECRET not in answer.text
    assert SECRET not in caplog.text


async def test_script_tags_in_a_message_reach_the_model_as_text(caplog: pytest.LogCaptureFixture) -> None:
    backend = ScriptedBackend(words=(SCRIPT,))
    async with (
        served(create_app(backend, ServeSettings())) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        answer = await client.post("/v1/chat/completions", json=said(SCRIPT, user=SCRIPT, stop=[SCRIPT]))
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["choices"][0]["message"]["content"] == SCRIPT
    assert backend.requests[0].messages[-1]["content"] == SCRIPT
    assert SECRET not in caplog.text


async def test_a_text_cannot_end_its_event_early() -> None:
    words = ("line\n\ndata: [DONE]\n\n", "\r\ndata: forged")
    async with (
        served(create_app(ScriptedBackend(words=words), ServeSettings())) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        answer = await client.post("/v1/chat/completions", json=said(stream=True))
    events = [line for line in answer.text.split("\n\n") if line]
    assert all(line.startswith("data: ") and "\n" not in line for line in events)
    texts = [json.loads(line[6:])["choices"][0]["delta"].get("content", "") for line in events[:-1]]
    assert "".join(texts) == "".join(words)
    assert events[-1] == "data: [DONE]"


async def test_headers_cannot_be_injected(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    keys.add("page")
    app = create_app(ScriptedBackend(), ServeSettings(keys_file=keys.path))
    async with served(app) as address:
        for line in (
            b"Authorization: Bearer x\nX-Injected: yes",
            b"Authorization: Bearer x\r\n X-Injected: yes",
            b"Accept-Language: en\r\n\r\nHTTP/1.1 200 OK",
            b"X-\x00Bad: yes",
            b"Content-Length: -5",
        ):
            answer = await raw(
                address,
                b"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + line + b"\r\n\r\n",
            )
            status = answer.split(b"\r\n", 1)[0]
            assert status.split()[1] in (b"400", b"401"), (line, status)
            assert b"injected" not in answer.lower()


@pytest.mark.parametrize(
    "path",
    [
        "/static/../settings.py",
        "/static/..%2fsettings.py",
        "/static/%2e%2e/settings.py",
        "/static/....//settings.py",
        "/static//etc/passwd",
        "/static/..\\settings.py",
        "/../../etc/passwd",
        "/v1/support/sessions/..%2f..%2fetc%2fpasswd",
    ],
)
async def test_no_path_leads_to_the_file_system(path: str) -> None:
    app = create_app(ScriptedBackend(), ServeSettings(sessions=True))
    async with served(app) as address:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answer = await raw(address, request.encode())
    assert answer.split()[1] in (b"400", b"404", b"405")
    assert b"import" not in answer and b"root:" not in answer


async def test_other_sites_are_kept_out() -> None:
    async with (
        served(create_app(ScriptedBackend(), ServeSettings())) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        ask = "/v1/chat/completions"
        origin = {"Origin": "https://elsewhere.example"}
        asked = await client.options(ask, headers={**origin, "Access-Control-Request-Method": "POST"})
        assert "access-control-allow-origin" not in asked.headers
        answered = await client.post(ask, json=said(), headers=origin)
        assert "access-control-allow-origin" not in answered.headers
        # A content type that a form on another site can send without a preflight request.
        form = await client.post(ask, content=json.dumps(said()), headers={"content-type": "text/plain"})
        assert form.status_code == 415
        # DNS rebinding: a foreign host name that points to this machine.
        rebound = await client.get("/v1/models", headers={"Host": "elsewhere.example"})
        assert rebound.status_code == 421


async def test_every_response_has_the_security_headers(tmp_path: Path) -> None:
    async with (
        served(create_app(ScriptedBackend(), ServeSettings())) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        for answer in (await client.get("/v1/models"), await client.get("/nowhere")):
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert "unsafe" not in answer.headers["content-security-policy"]
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["cache-control"] == "no-store"


class QuotingBackend(ScriptedBackend):
    """Raises an error that quotes the person, as a bug would."""

    async def stream(self, request):
        raise RuntimeError(f"cannot read {request.messages[-1]['content']}")
        yield


async def test_an_unexpected_error_neither_sends_nor_logs_the_text(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with (
        served(create_app(QuotingBackend(), ServeSettings())) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        for streams in (False, True):
            answer = await client.post("/v1/chat/completions", json=said(SECRET, stream=streams))
            assert answer.status_code == 500
            assert answer.json()["error"]["type"] == "server_error"
            assert SECRET not in answer.text
    own = "\n".join(record.getMessage() + str(record.exc_text) for record in caplog.records)
    assert "RuntimeError" in own
    assert SECRET not in own


@pytest.mark.parametrize(
    ("length", "status"), [("9" * 20, 413), ("9" * 21, 413), ("9" * 5000, 413), ("-1", 400), ("1e3", 400)]
)
async def test_no_announced_length_fails_the_service(length: str, status: int) -> None:
    app = create_app(ScriptedBackend(), ServeSettings())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        headers = {"content-length": length, "content-type": "application/json"}
        answer = await client.post("/v1/chat/completions", content=b"{}", headers=headers)
    assert answer.status_code == status
