from __future__ import annotations

import json
from pathlib import Path

import pytest

from mica_ray.cli import main
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


def test_a_wrong_bound_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["serve", "embedded", "--dry-run", "--set"]
    assert "request_seconds" in refused([*asked, "serve.request_seconds=0"], capsys)
    assert "max_messages" in refused([*asked, "serve.max_message=5"], capsys)
    assert "1 to 2" in refused(["serve", "embedded", "embedded", "embedded", "--dry-run"], capsys)


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
