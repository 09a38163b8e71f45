"""The key of a failing run appears nowhere: not on the screen, in the run folder or in MLflow's store."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from mica_ray.cli import main
from tests.chat.local_endpoint import Answer, LocalEndpoint, Request
from tests.launch.test_replay import TINY
from tests.small_policy import small_folder

VARIABLE = "SECRET_RUN_TEST_KEY"
KEY = "sk-proj-Q7hX2mV9/tB4wL8z+RcY3nJ6dF"


def parts_of(key: str) -> list[bytes]:
    half = len(key) // 2
    return [part.encode() for part in (key, key[:8], key[:half], key[half:], key[-8:], quote(key, safe=""))]


@contextmanager
def echoing_endpoint() -> Iterator[str]:
    """Serve errors that repeat the key of the request in ever different forms; yield the address."""
    addresses: list[str] = []
    ready, loop, done = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        async def respond(_: Request) -> Answer:
            key = server.keys[-1].removeprefix("Bearer ")
            told = (
                json.dumps({"error": {"message": f"Incorrect API key provided: {key}."}}),
                json.dumps({"error": f"No such key: {key[:8]}{'*' * 20}{key[-4:]}"}),
                json.dumps({"detail": [{"loc": ["header"], "msg": f"Bearer {key[:20]} is unknown"}]}),
                f"<html><title>Denied</title><p>authorization: Bearer {key}</p></html>",
                f"?key={quote(key, safe='')} is wrong; half of it is {key[: len(key) // 2]}",
            )
            number = len(server.requests)
            body = told[number % len(told)]
            if number % 7 == 0:
                return Answer(body=json.dumps({"choices": [{"error": {"code": 401, "message": key}}]}))
            return Answer(status=(401, 400, 403, 422)[number % 4], body=body)

        async with LocalEndpoint(respond=respond) as server:
            addresses.append(server.url)
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(timeout=10)
    try:
        yield addresses[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(timeout=10)


def run_cli(*arguments: str) -> object:
    try:
        main(arguments)
    except SystemExit as exit_:
        return exit_.code
    return 0


def role(url: str) -> str:
    return json.dumps({"model": "judge", "base_url": url, "api_key_env": VARIABLE, "attempts": 1})


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["\r"])
def test_key_of_a_failing_run_is_nowhere(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, KEY + ending)
    policy, calls = small_folder(tmp_path / "small", tied=True), tmp_path / "calls.jsonl"
    with echoing_endpoint() as url:
        recorded = json.dumps({"recording": str(calls), "mode": "record", "inner": json.loads(role(url))})
        sets = [*TINY, f"policy={policy}", f"out={tmp_path / 'run'}", f"roles.judge={recorded}"]
        code = run_cli("train", "--inline", *(part for each in sets for part in ("--set", each)))
    assert code == 1
    shown = "".join(capfd.readouterr()).encode()
    stored = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(stored) > 8 and any(path.suffix == ".db" for path in stored)
    assert b"[redacted]" in stored[Path("calls.jsonl")]
    for place, content in {Path("screen"): shown, **stored}.items():
        for part in parts_of(KEY):
            assert part not in content, (place, part)


@pytest.mark.parametrize(
    ("character", "name"), [("\u200b", "U+200B"), (" ", "U+0020"), ("\r\n", "U+000D"), ("ß", "U+00DF")]
)
@pytest.mark.parametrize("options", [("--dry-run",), ("--inline",)])
def test_key_that_is_none_ends_the_start_in_one_line(
    character: str,
    name: str,
    options: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(VARIABLE, KEY[:12] + character + KEY[12:])
    out = tmp_path / "run"
    code = run_cli(
        "train", *options, "--set", f"out={out}", "--set", f"roles.judge={role('http://127.0.0.1:1')}"
    )
    shown = "".join(capfd.readouterr())
    assert code == 2 and not out.exists()
    assert VARIABLE in shown and f"{name}) at position 13" in shown and shown.count("\n") == 1
    for part in parts_of(KEY):
        assert part.decode() not in shown


def test_key_in_place_of_the_variable_is_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    for key in (KEY, "Q7hX2mV9tB4wL8zRcY3nJ6dF"):
        config = json.dumps({"model": "judge", "api_key_env": key})
        assert run_cli("train", "--dry-run", "--set", f"roles.judge={config}") == 2
        shown = "".join(capfd.readouterr())
        assert "api_key_env must be the name of an environment variable" in shown
        assert key[:8] not in shown and key[-8:] not in shown


def test_traceback_of_an_unforeseen_error_is_redacted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # Restored after the test.
    monkeypatch.setenv("SOME_SERVICE_TOKEN", KEY)
    run_cli("--help")
    try:
        raise RuntimeError(f"sent {KEY}")
    except RuntimeError as error:
        sys.excepthook(RuntimeError, error, error.__traceback__)
    shown = capsys.readouterr().err
    assert "RuntimeError: sent [redacted]" in shown and "Traceback" in shown
    assert not any(part.decode() in shown for part in parts_of(KEY))
