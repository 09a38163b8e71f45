"""A run folder is data until it is trusted: it runs no foreign code, and no key goes where it says."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mica_ray.cli import main
from mica_ray.config.references import ConfigError, resolve
from mica_ray.config.run_config import RunConfig
from mica_ray.config.trust import give_trust, withdraw_trust
from mica_ray.launch.world import check_roles

ENVIRONMENT = {"OPENAI_API_KEY": "sk-1", "OTHER_KEY": "sk-2"}


@pytest.fixture(autouse=True)
def without_trust() -> Iterator[None]:
    withdraw_trust()
    yield
    withdraw_trust()


def evil(tmp_path: Path) -> tuple[str, Path]:
    """Return a Python file that leaves a mark if it is run."""
    mark = tmp_path / "taken"
    file = tmp_path / "evil.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom pathlib import Path\n"
        f"Path({str(mark)!r}).write_text('')\n"
        "@dataclass(frozen=True)\nclass Evil:\n    def __call__(self, turns): return turns\n"
        "    async def chat(self, messages, sampling, schema=None): ...\n"
        "    async def score(self, scenario, dialogue, *, state, seed): ...\n"
        "DOMAIN = 'x'\n"
    )
    return str(file), mark


def stored(tmp_path: Path, **values: Any) -> Path:
    path = tmp_path / "run" / "config.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values))
    return path


PLACES = ["credit", "credit object", "domain", "judge", "actor object", "recorded judge"]


def naming(reference: str, place: str) -> dict[str, Any]:
    described = {"object": reference}
    return {
        "credit": {"credit": reference},
        "credit object": {"credit": described},
        "domain": {"domain": reference},
        "judge": {"roles": {"judge": reference}},
        "actor object": {"roles": {"actor": described}},
        "recorded judge": {
            "roles": {"judge": {"recording": "calls.jsonl", "mode": "record", "inner": described}}
        },
    }[place]


@pytest.mark.parametrize("place", PLACES)
def test_a_stored_config_runs_no_foreign_code(tmp_path: Path, place: str) -> None:
    file, mark = evil(tmp_path)
    config = stored(tmp_path, **naming(f"{file}:Evil", place))
    with pytest.raises(ConfigError, match=r"config\.json names .*evil\.py:Evil.*--trust"):
        RunConfig.read(config)
    assert not mark.exists()


FOREIGN = [
    "os:system",
    "subprocess:Popen",
    "evil_module:Evil",
    "mica_ray_evil:Evil",
    "mica_ray/../evil.py:Evil",
    "./mica_ray.py:Evil",
    "mica_ray.py:Evil",
    "mica_ray.evil.py:Evil",
    " mica_ray.x:Evil",
]
# Names in our modules of what we do not define. A domain is resolved later, and must be a Domain.
IMPORTED = ["mica_ray.config.references:importlib", "mica_ray.serving.proxy:tempfile", "mica_ray.files:Path"]


@pytest.mark.parametrize(
    ("reference", "place"),
    [
        *((reference, place) for reference in FOREIGN for place in ("credit", "domain", "judge")),
        *((reference, place) for reference in IMPORTED for place in ("credit", "judge")),
    ],
)
def test_only_what_mica_ray_defines_may_be_named(tmp_path: Path, reference: str, place: str) -> None:
    with pytest.raises(ValueError, match=r"--trust|is not a reference"):
        RunConfig.read(stored(tmp_path, **naming(reference, place)))
    assert "evil_module" not in sys.modules


def test_our_own_code_may_be_named(tmp_path: Path) -> None:
    config = RunConfig.read(
        stored(
            tmp_path,
            domain="mica_ray.domains.tutoring:TUTORING",
            credit={"object": "mica_ray.credit:Mica", "alpha": 0.5},
        )
    )
    assert config.domain == "mica_ray.domains.tutoring:TUTORING"


@pytest.mark.parametrize("place", ["credit", "judge"])
def test_a_trusted_config_runs_its_code(tmp_path: Path, place: str) -> None:
    file, mark = evil(tmp_path)
    config = stored(tmp_path, **naming(f"{file}:Evil", place))
    give_trust()
    RunConfig.read(config)
    assert mark.exists()


def test_what_is_read_after_an_untrusted_config_is_not_restricted(tmp_path: Path) -> None:
    file, mark = evil(tmp_path)
    with pytest.raises(ConfigError):
        RunConfig.read(stored(tmp_path, **naming(f"{file}:Evil", "credit")))
    resolve(f"{file}:Evil")  # As `--set credit=FILE:NAME` does.
    assert mark.exists()


COMMANDS: list[list[str]] = [
    ["serve", "RUN", "--dry-run"],
    ["chat", "RUN"],
    ["evaluate", "RUN"],
    ["train", "--resume", "RUN", "--dry-run"],
    ["train", "RUN/config.json", "--dry-run"],
    ["credit", "check", "RUN"],
    ["compare", "RUN"],
    ["report", "RUN"],
    ["track", "RUN"],
    ["register", "RUN"],
    ["promote", "RUN", "--against", "before"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_runs_the_code_of_a_run_folder(tmp_path: Path, command: list[str]) -> None:
    file, mark = evil(tmp_path)
    run = stored(tmp_path, **naming(f"{file}:Evil", "credit")).parent
    (run / "checkpoints" / "step-1" / "learner" / "policy").mkdir(parents=True)
    (run / "summary.json").write_text("{}")
    with pytest.raises(SystemExit) as ended:
        main([part.replace("RUN", str(run)) for part in command])
    assert ended.value.code in (1, 2)
    assert not mark.exists()


def endpoint(base_url: str | None, api_key_env: str = "OTHER_KEY") -> dict[str, object]:
    return {"model": "m", "base_url": base_url, "api_key_env": api_key_env}


@pytest.mark.parametrize(
    "base_url",
    [
        "https://evil.example/v1",
        "http://evil.example/v1",
        "http://127.0.0.1.evil.example/v1",
        "http://10.0.0.1/v1",
    ],
)
@pytest.mark.parametrize("role", ["actor", "director", "judge"])
def test_no_key_is_sent_to_an_address_of_an_untrusted_config(
    tmp_path: Path, base_url: str, role: str
) -> None:
    path = stored(tmp_path, roles={role: endpoint(base_url)})
    config = RunConfig.read(path)
    with pytest.raises(ConfigError, match=rf"roles\.{role}: .*OTHER_KEY to {base_url}.*--trust"):
        check_roles(config.roles, ENVIRONMENT)
    give_trust()
    check_roles(RunConfig.read(path).roles, ENVIRONMENT)


@pytest.mark.parametrize(
    "base_url", [None, "http://127.0.0.1:8000/v1", "http://localhost/v1", "http://[::1]:1/v1"]
)
def test_this_machine_and_openai_may_get_their_key(tmp_path: Path, base_url: str | None) -> None:
    check_roles(RunConfig.read(stored(tmp_path, roles={"judge": endpoint(base_url)})).roles, ENVIRONMENT)


def test_an_endpoint_of_the_command_line_gets_its_key(tmp_path: Path) -> None:
    from mica_ray.config.overrides import override

    config = RunConfig.read(stored(tmp_path, roles={"judge": endpoint("https://evil.example/v1")}))
    mine = json.dumps(endpoint("https://mine.example/v1"))
    check_roles(override(config, [f"roles.judge={mine}"]).roles, ENVIRONMENT)
