"""cluster/with-env: the environment it creates, the settings it passes on, one line for each error.

uv is a script here that makes a bare environment and writes down how it was called, so nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = [
    "bash",
    "sh",
    "env",
    "cat",
    "cut",
    "sha256sum",
    "dirname",
    "readlink",
    "grep",
    "tee",
    "tail",
    "awk",
    "flock",
]
TOOLS += ["rm", "mkdir", "touch", "sleep", "true", "false"]

UV = f"""#!/bin/bash
echo "$@" >>"$UV_CALLS"
case "$1 $2" in
    "--version "*) ;;
    venv*) exec {sys.executable} -m venv --without-pip "${{@: -1}}" ;;
    "pip install") touch "$UV_CALLS.started"; eval "$UV_BEHAVIOUR" ;;
esac
"""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A copy of the set-up files in a separate folder; PATH contains only the named tools and programs."""

    folder: Path

    @property
    def calls(self) -> list[str]:
        """The calls of uv, without the options that all of them share."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [line for line in lines if not line.startswith("--version")]

    def program(self, name: str, script: str) -> None:
        path = self.folder / "bin" / name
        path.unlink(missing_ok=True)
        path.write_text(script if script.startswith("#!") else f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def start(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        environment = {
            "PATH": str(self.folder / "bin"),
            "HOME": str(self.folder / "home"),
            "MICA_EXTRA": "cpu",
            "MICA_PYTHON": sys.executable,
            "PIP_CONFIG_FILE": os.devnull,
            "UV_CALLS": str(self.folder / "calls"),
            **variables,
        }
        return subprocess.Popen(
            [self.folder / "cluster" / "with-env", *command],
            env=environment, cwd=self.folder / "home", text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def call(self, *command: str, **variables: str) -> tuple[int, str, str]:
        process = self.start(*command, **variables)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output.strip(), errors.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(ROOT / "cluster" / "with-env", tmp_path / "cluster")
    (tmp_path / "cluster" / "requirements-cpu.txt").write_text("numpy==2.0.0\n")
    (tmp_path / "cluster" / "requirements-gpu.txt").write_text("numpy==2.0.0\n")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'mica-ray'\n")
    for name in TOOLS:
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or name)
    made = Checkout(tmp_path)
    made.program("uv", UV)
    made.program("g++", "true")
    made.program("df", "echo Header; echo 'disk 1 1 99000000 1% /'")
    return made


def test_command_runs_in_the_environment_from_an_empty_one(checkout: Checkout) -> None:
    status, output, _ = checkout.call(
        "python", "-c", "import sys, os; print(sys.prefix, os.getcwd()); sys.exit(7)"
    )
    assert (status, output) == (7, f"{checkout.folder / '.venv'} {checkout.folder / 'home'}")


def test_second_call_installs_nothing_and_starts_at_once(checkout: Checkout) -> None:
    checkout.call("true")
    before = checkout.calls
    start = time.monotonic()
    assert checkout.call("true") == (0, "", "")
    assert time.monotonic() - start < 2
    assert checkout.calls == before


def test_changed_requirements_are_brought_in_without_starting_over(checkout: Checkout) -> None:
    checkout.call("true")
    kept = checkout.folder / ".venv" / "kept"
    kept.touch()
    (checkout.folder / "cluster" / "requirements-cpu.txt").write_text("numpy==2.1.0\n")
    status, _, errors = checkout.call("true")
    assert status == 0
    assert "up to date" in errors
    assert kept.exists()
    assert sum(call.startswith("venv") for call in checkout.calls) == 1


def test_environment_made_by_hand_is_kept(checkout: Checkout) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", checkout.folder / ".venv"], check=True)
    kept = checkout.folder / ".venv" / "kept"
    kept.touch()
    assert checkout.call("true")[0] == 0
    assert kept.exists()


def test_failed_installation_leaves_a_working_environment_in_place(checkout: Checkout) -> None:
    checkout.call("true")
    kept = checkout.folder / ".venv" / "kept"
    kept.touch()
    (checkout.folder / "pyproject.toml").write_text("[project]\nname = 'broken'\n")
    for _ in range(2):
        status, _, errors = checkout.call(
            "true", UV_BEHAVIOUR="echo 'OSError: no such file'; exit 1", **OFFLINE
        )
        assert status == 1
        assert "with-env: " in errors
        assert kept.exists()


def test_call_cut_off_is_taken_up_again(checkout: Checkout) -> None:
    process = checkout.start("true", UV_BEHAVIOUR="sleep 60")
    deadline = time.monotonic() + 30
    while not (checkout.folder / "calls.started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    assert checkout.call("true")[0] == 0
    # A package may be incomplete, so every package is installed again.
    assert "--reinstall" in checkout.calls[-2]
    assert checkout.call("true") == (0, "", "")


def test_two_calls_at_once_make_one_environment(checkout: Checkout) -> None:
    processes = [checkout.start("true", UV_BEHAVIOUR="sleep 0.5") for _ in range(2)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum(call.startswith("venv") for call in checkout.calls) == 1
    assert sum("waiting for another call" in error for error in errors) == 1


def test_pip_settings_reach_uv(checkout: Checkout) -> None:
    settings = checkout.folder / "pip.conf"
    settings.write_text(
        "[global]\ntimeout = 90\nindex-url = https://one.example\nfind-links = /wheels/a\n    /wheels/b\n"
    )
    behaviour = 'echo "timeout $UV_HTTP_TIMEOUT" >>"$UV_CALLS"'
    checkout.call(
        "true",
        PIP_CONFIG_FILE=str(settings),
        PIP_INDEX_URL="https://two.example/simple",
        UV_BEHAVIOUR=behaviour,
    )
    calls = "\n".join(checkout.calls)
    assert "--find-links=/wheels/a --find-links=/wheels/b" in calls
    # As with pip itself, the environment outranks the file.
    assert "--default-index=https://two.example/simple" in calls
    assert "one.example" not in calls
    assert "timeout 90" in calls


def test_torch_index_is_asked_only_where_torch_is_not_found(checkout: Checkout) -> None:
    (checkout.folder / "cluster" / "requirements-cpu.txt").write_text("numpy==2.0.0\ntorch==2.13.0+cpu\n")
    checkout.call("true")
    assert not any("download.pytorch.org" in call for call in checkout.calls)
    (checkout.folder / "cluster" / "requirements-cpu.txt").write_text("numpy==2.0.1\ntorch==2.13.0+cpu\n")
    found_there_only = '[[ "$*" != *torch==* || "$*" == *download.pytorch.org/whl/cpu* ]]'
    assert checkout.call("true", UV_BEHAVIOUR=found_there_only)[0] == 0
    assert sum("download.pytorch.org" in call for call in checkout.calls) == 1


CPU_TORCH = "numpy==2.0.0\ntorch==2.13.0+cpu\nvllm-cpu==0.29.0\n"
NO_CPU_BUILD = '[[ "$*" != *torch==*+cpu* ]]'
"""uv where only a plain package index answers."""


def test_plain_index_supplies_its_own_build_of_torch_with_one_line_before(checkout: Checkout) -> None:
    (checkout.folder / "cluster" / "requirements-cpu.txt").write_text(CPU_TORCH)
    status, _, errors = checkout.call("true", UV_BEHAVIOUR=NO_CPU_BUILD)
    assert status == 0
    first, second = errors.splitlines()
    assert "about 3 GB" in first
    assert "no source has the CPU build of torch" in second
    assert "8 GB instead of 3" in second
    tried, on_torch_index, torch, others, project = [call for call in checkout.calls if "install" in call]
    assert tried.endswith("--no-deps torch==2.13.0+cpu")
    assert "download.pytorch.org" in on_torch_index
    # With its dependencies, which the list does not name; the list keeps the versions of everything else.
    listed = checkout.folder / ".venv" / ".requirements-without-torch"
    assert torch.endswith(f"-c {listed} torch==2.13.0")
    assert "--no-deps" not in torch
    assert others.endswith(f"--no-deps -r {listed}")
    assert listed.read_text() == "numpy==2.0.0\nvllm-cpu==0.29.0\n"
    assert "--editable" in project


def test_disk_too_small_for_the_larger_torch_is_reported_before_it_is_downloaded(checkout: Checkout) -> None:
    (checkout.folder / "cluster" / "requirements-cpu.txt").write_text(CPU_TORCH)
    checkout.program(
        "df", f"echo Header; echo 'disk 1 1 {17 * 1048576} 1% /'"
    )  # KiB: room for 6 GiB, not for 18
    status, _, errors = checkout.call("true", UV_BEHAVIOUR=NO_CPU_BUILD)
    assert status == 1
    assert "has 17 GiB free and the environment needs 18 GiB" in errors.splitlines()[-1]
    assert not any(call.endswith("torch==2.13.0") for call in checkout.calls)
    checkout.program("df", f"echo Header; echo 'disk 1 1 {18 * 1048576} 1% /'")
    assert checkout.call("true", UV_BEHAVIOUR=NO_CPU_BUILD)[0] == 0


def test_larger_torch_that_is_installed_is_not_announced_again(checkout: Checkout) -> None:
    requirements = checkout.folder / "cluster" / "requirements-cpu.txt"
    requirements.write_text(CPU_TORCH)
    library = checkout.folder / ".venv" / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"
    installed = library / "torch-2.13.0.dist-info"
    install = f"mkdir -p {installed}; echo 'Version: 2.13.0' >{installed}/METADATA"
    assert "instead of" in checkout.call("true", UV_BEHAVIOUR=f"{NO_CPU_BUILD} && {{ {install}; }}")[2]
    requirements.write_text(CPU_TORCH + "rich==14.0.0\n")
    status, _, errors = checkout.call("true", UV_BEHAVIOUR=NO_CPU_BUILD)
    assert status == 0
    assert "instead of" not in errors


def test_without_any_torch_one_line_names_two_settings(checkout: Checkout) -> None:
    (checkout.folder / "cluster" / "requirements-cpu.txt").write_text(CPU_TORCH)
    no_torch = '[[ "$*" != *torch==* ]] || { echo "no matching distribution found for torch"; false; }'
    status, _, errors = checkout.call("true", UV_BEHAVIOUR=no_torch, **OFFLINE)
    assert status == 1
    assert "PIP_INDEX_URL, PIP_FIND_LINKS" in errors.splitlines()[-1]
    assert not any(call.endswith("-without-torch") for call in checkout.calls)


def test_defaults_give_way_to_what_is_set(checkout: Checkout) -> None:
    show = "from os import environ; print(environ['VLLM_NO_USAGE_STATS'], environ['VLLM_CPU_KVCACHE_SPACE'])"
    assert checkout.call("python", "-c", show, VLLM_CPU_KVCACHE_SPACE="4")[1] == "1 4"


OFFLINE = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}


@pytest.mark.parametrize(
    ("variables", "programs", "said"),
    [
        ({"MICA_PYTHON": "old"}, {"old": "echo 3.9"}, "Python 3.11 or 3.12 is needed"),
        ({"MICA_PYTHON": "none"}, {}, "no Python answered"),
        ({"MICA_EXTRA": "tpu"}, {}, "MICA_EXTRA must be cpu or gpu, got 'tpu'."),
        ({}, {"df": "echo Header; echo 'disk 1 1 2097152 1% /'"}, "has 2 GiB free and"),
        ({"UV_BEHAVIOUR": "echo 'No space left on device (os error 28)'; exit 2"}, {}, "the disk is full"),
        ({"UV_BEHAVIOUR": "exit 2", **OFFLINE}, {}, "the packages could not be downloaded. Check"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_last_line(
    checkout: Checkout, variables: dict[str, str], programs: dict[str, str], said: str
) -> None:
    for name, script in programs.items():
        checkout.program(name, script)
    status, output, errors = checkout.call("true", **variables)
    assert (status, output) == (1, "")
    assert said in errors.splitlines()[-1]


def test_other_extra_is_refused_instead_of_replacing_the_environment(checkout: Checkout) -> None:
    checkout.call("true")
    status, _, errors = checkout.call("true", MICA_EXTRA="gpu")
    assert status == 1
    assert "was made for cpu, not gpu" in errors
    assert checkout.call("true", MICA_EXTRA="")[0] == 0


def test_missing_compiler_turns_compilation_off_and_says_so(checkout: Checkout) -> None:
    checkout.call("true")
    (checkout.folder / "bin" / "g++").unlink()
    status, output, errors = checkout.call(
        "python", "-c", "from os import environ; print(environ['TORCHDYNAMO_DISABLE'])"
    )
    assert (status, output) == (0, "1")
    assert errors.splitlines() == [errors]
    assert "no g++ found" in errors


def test_missing_command_and_empty_call_have_their_own_status(checkout: Checkout) -> None:
    assert checkout.call()[0] == 2
    status, _, errors = checkout.call("nonesuch")
    assert status == 127
    assert "nonesuch: no such command" in errors
