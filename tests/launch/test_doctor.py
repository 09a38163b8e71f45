"""The doctor's checks: what they find with real servers, files and programs, and that none is a traceback."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from mica_ray.config import ConfigError, RunConfig
from mica_ray.config.overrides import override
from mica_ray.launch.checked_run import CheckedRun
from mica_ray.launch.doctor.endpoints import endpoints_of, probe_endpoint
from mica_ray.launch.doctor.examine import examine, examine_for_free
from mica_ray.launch.doctor.finding import Check, Finding, run_checks
from mica_ray.launch.doctor.machine import (
    check_compiler,
    check_disks,
    check_gpu,
    check_memory,
    check_python,
)
from mica_ray.launch.doctor.services import check_ray, check_tracking
from mica_ray.launch.memory.processes import Model
from mica_ray.launch.preflight import check_disk, check_run
from tests.chat.local_endpoint import HANG, Answer, LocalEndpoint, refusal
from tests.chat.providers import KEY, PROVIDERS, Provider
from tests.launch.broken_folders import FAULTS
from tests.small_policy import small_folder

ENVIRONMENT = {"OPENAI_API_KEY": KEY}


def checked(*assignments: str, inline: bool = True) -> CheckedRun:
    return check_run(override(RunConfig(), assignments), inline=inline, environment={}, gpus_here=0)


def judged(**fields: object) -> RunConfig:
    return override(RunConfig(), [f"roles.judge={json.dumps({'model': 'm', **fields})}"])


def probe(config: RunConfig, environment: Mapping[str, str] = ENVIRONMENT) -> Finding:
    """Ask the only endpoint of a config."""
    ((endpoint, names),) = endpoints_of(config)
    return probe_endpoint(endpoint, names, config, environment)


def settings(fix: str) -> list[str]:
    """Return the assignments of the --set options in a text."""
    return re.findall(r"--set '([^']*)'", fix)


# ---- how checks are run


def test_check_that_crashes_or_hangs_is_a_failed_finding() -> None:
    def crash() -> Finding:
        raise KeyError("model_type")

    def refuse() -> Finding:
        raise ConfigError("out: no room on the disk. Free some.")

    begin = time.monotonic()
    found = run_checks(
        [
            Check("a", crash),
            Check("b", refuse),
            Check("c", lambda: time.sleep(30) or Finding("c", "ok", ""), deadline_seconds=0.1),
            Check("d", lambda: [Finding("d", "ok", "one"), Finding("d", "warning", "two", "Do it.")]),
        ]
    )
    assert time.monotonic() - begin < 20
    assert [finding.status for finding in found] == ["failed", "failed", "failed", "ok", "warning"]
    assert found[0].line == "a: the check failed with KeyError: 'model_type'. Check this part by hand."
    assert (found[1].found, found[1].fix) == ("out: no room on the disk", "Free some.")
    assert "no answer within 0.1 s" in found[2].found


# ---- endpoints


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
async def test_recommended_settings_make_a_provider_work(provider: Provider) -> None:
    always = {"api_key_header": "api-key"} if provider.name == "azure" else {}
    async with provider:
        config = judged(base_url=provider.url, **always)
        first = await asyncio.to_thread(probe, config)
        if first.status == "failed":
            assert "rejects what the config sends" in first.found
            assert first.fix.startswith("Add --set 'roles.judge.")
            config = override(config, settings(first.fix))
            first = await asyncio.to_thread(probe, config)
    assert first.status != "failed", first
    assert "answers in" in first.found
    assert KEY not in first.line


async def test_what_an_endpoint_accepts_takes_and_costs_is_shown() -> None:
    answer = Answer(text='{"reason": "it listens", "level": 2}', model="m-2026")
    async with LocalEndpoint(answer) as server:
        prices = {"price_per_million_prompt_tokens": 1000, "price_per_million_completion_tokens": 0}
        finding = await asyncio.to_thread(probe, judged(base_url=server.url, **prices))
    assert finding.status == "ok"
    assert "m-2026 answers in" in finding.found
    assert "accepts json_schema, seed, temperature, top_p, max_tokens" in finding.found
    assert finding.found.endswith("USD")
    assert len(server.requests) == 1
    assert {"seed", "temperature", "top_p", "max_tokens", "response_format"} <= server.requests[0].keys()


@pytest.mark.parametrize("omit", [["top_p"], ["temperature", "top_p", "seed", "stop"]])
async def test_field_that_the_config_omits_is_not_called_rejected(omit: list[str]) -> None:
    async with LocalEndpoint(Answer(text='{"reason": "yes", "level": 1}')) as server:
        finding = await asyncio.to_thread(probe, judged(base_url=server.url, omit=omit))
    assert (finding.status, finding.fix) == ("ok", "")


async def test_new_setting_keeps_the_fields_that_the_config_omits() -> None:
    async def respond(request: dict[str, object]) -> Answer:
        if "seed" in request:
            return refusal(400, "'seed' is not supported")
        return Answer(text='{"reason": "yes", "level": 1}')

    async with LocalEndpoint(respond=respond) as server:
        finding = await asyncio.to_thread(probe, judged(base_url=server.url, omit=["top_p"]))
    assert finding.fix == """Add --set 'roles.judge.omit=["top_p", "seed"]'"""


async def test_endpoint_that_is_busy_once_is_asked_again() -> None:
    busy = Answer(status=429, body='{"error": "busy"}', headers={"retry-after-ms": "1"})
    async with LocalEndpoint(busy, Answer(text='{"reason": "yes", "level": 1}')) as server:
        finding = await asyncio.to_thread(probe, judged(base_url=server.url, first_pause_seconds=0.01))
    assert finding.status == "ok"


async def test_sentences_of_an_endpoint_are_no_remedy() -> None:
    async with LocalEndpoint(refusal(401, "Wrong key. You find yours on our page. Bye.")) as server:
        finding = await asyncio.to_thread(probe, judged(base_url=server.url))
    assert "You find yours on our page" in finding.found
    assert finding.fix == "Check the variable OPENAI_API_KEY, which contains it."


async def test_field_that_only_the_probe_sends_needs_no_setting() -> None:
    async def respond(request: dict[str, object]) -> Answer:
        if "top_p" in request:
            return refusal(400, "'top_p' is not supported")
        return Answer(text='{"reason": "yes", "level": 1}')

    async with LocalEndpoint(respond=respond) as server:
        finding = await asyncio.to_thread(probe, judged(base_url=server.url))
    assert (finding.status, finding.fix) == ("ok", "")
    assert "accepts json_schema, seed, temperature, max_tokens;" in finding.found


@pytest.mark.parametrize(
    ("answer", "status", "part"),
    [
        (refusal(401, "no such key"), "failed", "status 401"),
        (refusal(404, "no such model"), "failed", "no such model"),
        (refusal(500, "down"), "failed", "status 500"),
        (refusal(400, "everything is wrong"), "failed", "everything is wrong"),
        (Answer(body="<html>login</html>"), "failed", "not a chat completion"),
        (Answer(text="Level two."), "warning", "not the JSON object"),
        (Answer(text="[1]"), "warning", "not the JSON object"),
        (HANG, "failed", "no answer within 0.2 s"),
    ],
)
async def test_endpoint_that_cannot_be_used_is_a_finding(answer: Answer, status: str, part: str) -> None:
    async with LocalEndpoint(answer) as server:
        finding = await asyncio.to_thread(probe, judged(base_url=server.url, timeout_seconds=0.2))
    assert finding.status == status
    assert part in finding.found
    assert finding.fix
    assert len(server.requests) == 1  # A probe costs one request where it learns nothing from an error.


def test_roles_on_one_endpoint_are_asked_once() -> None:
    endpoint = '{"model": "m", "base_url": "http://127.0.0.1:9/v1"}'
    config = override(RunConfig(), [f"roles.{role}={endpoint}" for role in ("actor", "director", "judge")])
    assert [names for _, names in endpoints_of(config)] == [("actor", "director", "judge")]
    finding = probe(config)
    assert (finding.subject, finding.status) == ("roles.actor, roles.director, roles.judge", "failed")
    assert "no connection" in finding.found


def test_missing_key_is_a_finding_and_nothing_is_sent() -> None:
    findings = examine(judged(base_url="http://127.0.0.1:9/v1"), inline=True, environment={}, paid=True)
    failed = [finding for finding in findings if finding.status == "failed"]
    assert {finding.subject for finding in failed} == {"roles", "roles.judge"}
    assert all("OPENAI_API_KEY" in finding.line for finding in failed)


# ---- models, in the doctor's table


@pytest.mark.parametrize("fault", ["weights are a pointer", "tokenizer of a newer library", "gptq"])
def test_broken_model_folder_is_a_failed_row(tmp_path: Path, fault: str) -> None:
    folder = small_folder(tmp_path / "model", tied=True)
    FAULTS[fault][0](folder)
    config = override(RunConfig(), [f"policy={folder}", "rollout.context_length=512"])
    findings = {found.subject: found for found in examine(config, inline=True, environment={}, paid=False)}
    assert findings["policy"].status == "failed"
    assert str(folder) in findings["policy"].line
    assert findings["policy"].fix


# ---- this machine


def test_python_and_packages_are_named_with_their_versions() -> None:
    python, packages = check_python(inline=False)
    assert (python.status, packages.status) == ("ok", "ok")
    assert all(name in packages.found for name in ("torch ", "ray ", "vllm", "deepspeed "))


@pytest.mark.parametrize(
    ("assignment", "environment", "is_here", "status"),
    [
        ("engine.gpus_per_engine=0", {"CXX": "sh"}, True, "ok"),
        ("engine.gpus_per_engine=0", {"TORCHDYNAMO_DISABLE": "1"}, True, "ok"),
        ("engine.gpus_per_engine=0", {}, True, "failed"),
        ("engine.gpus_per_engine=0", {}, False, "warning"),
        ("engine.gpus_per_engine=1", {"CC": "sh"}, True, "ok"),
        ("engine.gpus_per_engine=1", {"TORCHDYNAMO_DISABLE": "1"}, True, "failed"),
    ],
)
def test_missing_compiler_fails_where_vllm_needs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, assignment: str, environment: dict[str, str],
    is_here: bool, status: str,
) -> None:  # fmt: skip
    (tmp_path / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(tmp_path))  # Without g++, gcc and clang.
    config = override(RunConfig(), [assignment])
    found = check_compiler(config, inline=False, is_here=is_here, environment=environment)
    assert found.status == status
    assert check_compiler(config, inline=True, is_here=True, environment={}).status == "ok"


def test_model_larger_than_the_memory_fails() -> None:
    assert check_memory(RunConfig(), Model(parameters=10**5), inline=True).status in ("ok", "warning")
    with pytest.raises(ConfigError, match=r"The run needs .* of host memory, and this machine has"):
        check_memory(RunConfig(), Model(parameters=10**15), inline=True)


def test_disks_are_named_and_too_small_a_one_is_an_error(tmp_path: Path) -> None:
    config = override(RunConfig(), [f"out={tmp_path / 'new' / 'run'}"])
    subjects = [finding.subject for finding in check_disks(config, Model(parameters=10**6), inline=False)]
    assert subjects[:2] == ["disk", "temporary files"]
    with pytest.raises(ConfigError, match="GiB of disk"):
        check_disks(config, Model(parameters=10**15), inline=False)


@pytest.mark.parametrize(
    ("setting", "bytes_each"),
    [("learner.dtype=float32", 16), ("learner.dtype=bfloat16", 14)],
)
def test_disk_has_room_for_the_kept_checkpoints_and_one_more(
    tmp_path: Path, setting: str, bytes_each: int
) -> None:
    config = override(RunConfig(), [f"out={tmp_path}", "loop.keep_checkpoints=2", setting])
    free = shutil.disk_usage(tmp_path).free - 2 * 2**30  # Spare room for everything else.
    room = Model(parameters=int(free / (3 * bytes_each)))
    check_disk(config, replace(room, parameters=int(0.98 * (room.parameters or 0))), inline=False)
    with pytest.raises(ConfigError, match="GiB of disk"):
        check_disk(config, replace(room, parameters=int(1.02 * (room.parameters or 0))), inline=False)


def test_missing_gpus_are_an_error_and_none_is_fine_where_none_is_needed() -> None:
    config = override(RunConfig(), ["engine.gpus_per_engine=1"])
    with pytest.raises(ConfigError, match="The run needs 1 GPUs, 0 available"):
        check_gpu(config, inline=False, found=0)
    assert check_gpu(config, inline=True, found=0).status == "ok"
    assert "joins the cluster" in check_gpu(config, inline=False, found=None).found


# ---- services


def test_ray_address_that_does_not_answer_fails() -> None:
    for address in ("127.0.0.1:9", "ray://127.0.0.1:9", "nohost.invalid:6379"):
        found = check_ray(RunConfig(), inline=False, environment={"RAY_ADDRESS": address}, starts=True)
        assert found.status == "failed"
        assert address in found.found


def test_ray_address_that_answers_is_not_joined_by_a_free_check() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        found = check_ray(RunConfig(), inline=False, environment={"RAY_ADDRESS": address}, starts=False)
    assert found.status == "ok"
    assert address in found.found
    assert check_ray(RunConfig(), inline=True, environment={}, starts=True).found == "not needed"


def test_tracking_file_is_checked_and_not_created(tmp_path: Path) -> None:
    def check(path: Path) -> Finding:
        return check_tracking(override(RunConfig(), [f"tracking_uri=sqlite:///{path}"]), creates=True)

    assert check_tracking(RunConfig(), creates=True).found == "a file in the run folder"
    new = tmp_path / "runs" / "mlflow.db"
    assert check(new).status == "ok"
    assert not new.parent.exists()
    assert check(tmp_path).status == "failed"
    (tmp_path / "text").write_text("no database at all, but long enough to be read as one" * 40)
    assert "is no database" in check(tmp_path / "text").found
    with sqlite3.connect(tmp_path / "other.db") as database:
        database.execute("CREATE TABLE films (title TEXT)")
    assert "another program" in check(tmp_path / "other.db").found
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("CREATE TABLE experiments (id INTEGER)")
    assert check(tmp_path / "mlflow.db").status == "ok"


def test_tracking_server_that_is_down_is_a_warning() -> None:
    config = override(RunConfig(), ["tracking_uri=http://127.0.0.1:9"])
    found = check_tracking(config, creates=False)
    assert (found.status, "127.0.0.1" in found.found) == ("warning", True)


# ---- the dry run


def test_dry_run_makes_the_free_checks_and_stops_at_the_first_that_fails() -> None:
    subjects = [finding.subject for finding in examine_for_free(checked(), environment={})]
    assert {"Python", "packages", "disk", "memory", "GPUs", "Ray", "tracking"} <= set(subjects)
    run = checked(inline=False)
    with pytest.raises(ConfigError, match=r"Ray: RAY_ADDRESS=127.0.0.1:9 does not answer .*Check the head"):
        examine_for_free(run, environment={"RAY_ADDRESS": "127.0.0.1:9", "CXX": "sh"})
