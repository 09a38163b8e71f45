from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from mica_ray.cli import main
from mica_ray.serving.http.api_keys import KeyFile
from tests.small_adapters import written
from tests.small_policy import small_folder


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must exit with code 2 and print one line; return the line."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_binding_beyond_this_machine_needs_a_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        message = refused(["serve", "embedded", "--host", host, "--dry-run"], capsys)
        assert f"--host {host}" in message and "--api-key-file" in message
    keys = tmp_path / "keys.json"
    main_ends_well(["serve-key", "add", "page", "--file", str(keys)])
    key = capsys.readouterr().out.strip()
    assert key not in keys.read_text()
    main_ends_well(["serve", "embedded", "--host", "0.0.0.0", "--api-key-file", str(keys), "--dry-run"])
    main_ends_well(["serve-key", "revoke", "page", "--file", str(keys)])
    serve = ["serve", "embedded", "--host", "0.0.0.0", "--api-key-file", str(keys), "--dry-run"]
    assert "no valid key" in refused(serve, capsys)


def main_ends_well(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0


def test_the_plan_names_both_models_and_what_is_kept(tmp_path: Path) -> None:
    base, trained = (small_folder(tmp_path / name, tied=True) for name in ("base", "trained"))
    plan = tmp_path / "plan.json"
    asked = ["serve", str(base), str(trained), "--dry-run", "--json", str(plan), "--replicas", "2"]
    limits = ["rollout.context_length=512", "engine.max_model_len=512", "serve.sessions=true"]
    main_ends_well([*asked, *(part for limit in limits for part in ("--set", limit))])
    record = json.loads(plan.read_text())
    assert [model["id"] for model in record["models"]] == ["base", "trained"]
    assert record["settings"]["sessions"] is True
    assert record["replicas"]["at_least"] == 2


def test_adapters_of_one_base_are_planned_with_one_engine(tmp_path: Path) -> None:
    base = small_folder(tmp_path / "base", tied=True)
    folders = [written(tmp_path / name, seed, base) for seed, name in enumerate(("kind", "calm"))]
    plan = tmp_path / "plan.json"
    size = ["--set", "engine.max_model_len=256", "--set", "rollout.context_length=256"]
    reply = ["--set", "rollout.sampling.max_tokens=64"]
    main_ends_well(["serve", *folders, "--dry-run", "--json", str(plan), *size, *reply])
    found = [
        (model["id"], model["path"], model["adapter"]) for model in json.loads(plan.read_text())["models"]
    ]
    assert found == [("kind", str(base), folders[0]), ("calm", str(base), folders[1])]
    # One by itself is merged, which a dry run does not do: it is represented by its base.
    main_ends_well(["serve", folders[0], "--dry-run", "--json", str(plan), *size, *reply])
    (alone,) = json.loads(plan.read_text())["models"]
    assert alone["adapter"] is None


def test_a_wrong_bound_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["serve", "embedded", "--dry-run", "--set"]
    assert "request_seconds" in refused([*asked, "serve.request_seconds=0"], capsys)
    assert "max_messages" in refused([*asked, "serve.max_message=5"], capsys)
    assert "1 to 8" in refused(["serve", *["embedded"] * 9, "--dry-run"], capsys)


def test_a_judge_in_the_cluster_is_planned_and_needs_sessions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = small_folder(tmp_path / "judge", tied=True)
    serve = ["serve", "embedded", "--judge", f"vllm:{folder}", "--dry-run"]
    capsys.readouterr()  # Discard the output of creating the folder.
    assert "sessions = true" in refused(serve, capsys)
    plan = tmp_path / "plan.json"
    main_ends_well([*serve, "--set", "serve.sessions=true", "--json", str(plan)])
    assert json.loads(plan.read_text())["judge"] == f"vllm:{folder}"
    missing = ["serve", "embedded", "--judge", f"vllm:{tmp_path / 'none'}", "--dry-run"]
    assert "--judge" in refused([*missing, "--set", "serve.sessions=true"], capsys)


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate of this machine with openssl; return its file and its key."""
    file, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    subprocess.run([*command, "-keyout", str(key), "-out", str(file)], check=True, capture_output=True)
    return file, key


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_https_needs_a_certificate_and_its_own_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file, key), (_, other) = certificate(tmp_path, "one"), certificate(tmp_path, "two")
    serve = ["serve", "embedded", "--dry-run"]
    assert "--tls-key is missing" in refused([*serve, "--tls-cert", str(file)], capsys)
    assert "--tls-cert is missing" in refused([*serve, "--tls-key", str(key)], capsys)
    assert "cannot be used" in refused([*serve, "--tls-cert", str(file), "--tls-key", str(other)], capsys)
    assert "cannot be used" in refused(
        [*serve, "--tls-cert", str(tmp_path / "no"), "--tls-key", str(key)], capsys
    )
    main_ends_well([*serve, "--tls-cert", str(file), "--tls-key", str(key)])


def test_a_key_gets_its_terms_from_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "keys.json")
    add = ["serve-key", "add", "--file", file]
    main_ends_well([*add, "plain"])
    limits = ["--max-in-flight", "2", "--max-sessions", "3", "--daily-tokens", "4"]
    main_ends_well(
        [*add, "full", "--scope", "metrics", "--scope", "chat", "--expires", "2999-12-31", *limits]
    )
    main_ends_well([*add, "month", "--expires", "30d"])
    plain, full, month = KeyFile(Path(file)).records()
    assert (plain.scopes, plain.expires) == (("chat", "support"), None)
    assert (full.scopes, full.max_in_flight, full.max_sessions, full.daily_tokens) == (
        ("chat", "metrics"),
        2,
        3,
        4,
    )
    assert full.expires == 32503680000  # 3000-01-01, when the last day has ended
    assert month.expires is not None and abs(month.expires - month.created - 30 * 86_400) <= 2
    capsys.readouterr()
    for option, problem in (
        (["--scope", "admin"], "--scope admin does not exist"),
        (["--expires", "2001-01-01"], "has passed"),
        (["--expires", "0d"], "has passed"),
        (["--expires", "-3d"], "has passed"),
        (["--expires", "tomorrow"], "is no time"),
        (["--expires", "1e9d"], "is no time"),
    ):
        assert problem in refused([*add, "more", *option], capsys)
    listing = tmp_path / "list.json"
    main_ends_well(["serve-key", "list", "--file", file, "--json", str(listing)])
    assert "sha256" not in listing.read_text()
    assert json.loads(listing.read_text())["keys"][1]["daily_tokens"] == 4
