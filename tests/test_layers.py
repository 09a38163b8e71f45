"""The import contracts of pyproject.toml hold, and each of them fails when it is broken."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
CONTRACTS = {
    contract["id"]: contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}

BREAKS = [
    ("layers", "types/dialogue", "import mica_ray.training.learner"),
    ("layers", "chat/model", "import mica_ray.dialogue.domain"),
    ("layers", "runs/folder", "import mica_ray.launch.run"),
    ("ground", "rewards", "import transformers"),
    ("ground", "packing", "import asyncio"),
    ("torch", "packing", "def late() -> None:\n    import torch"),
    ("credit", "credit/mica", "import pandas"),
    ("chat", "chat/model", "import ray"),
    ("dialogue", "dialogue/domain", "import torch"),
    ("domains", "domains/loader", "import transformers"),
    ("embedded", "embedded/world", "import vllm"),
    ("lora", "lora/adapter", "import vllm"),
    ("rollout", "rollout/engine", "import deepspeed"),
    ("rllib", "rllib/ppo", "import vllm"),
    ("tracking", "tracking/tracker", "import torch"),
    ("safety", "safety/check", "import starlette"),
    ("recordings", "recordings/dialogue_log", "import mlflow"),
    ("evaluation", "evaluation/evaluate", "import mica_ray.training.learner"),
    ("credit_study", "credit_study/check", "import mica_ray.training.learner"),
    ("judges", "judges/agreement", "import torch"),
    ("benchmarks", "benchmarks/question", "import torch"),
    ("simulators", "simulators/measures", "import torch"),
    ("training", "training/loop", "import mlflow"),
    ("config", "config/run_config", "import ray"),
    ("runs", "runs/folder", "import torch"),
    ("launch", "launch/run", "import typer"),
    ("reporting", "reporting/drawing/page", "import mlflow"),
    ("tuning", "tuning/sweep", "import torch"),
    ("serving", "serving/web_app", "import mlflow"),
    ("cli", "cli/options", "import ray"),
    ("ray", "training/learner", "import ray"),
]
"""Contract, module that breaks it, line that breaks it."""


def lint(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache"], cwd=directory, capture_output=True, text=True, timeout=120, check=False
    )


def copy_package(directory: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", directory)
    shutil.copytree(ROOT / "mica_ray", directory / "mica_ray", ignore=shutil.ignore_patterns("__pycache__"))
    return directory


@pytest.fixture
def copied_package(tmp_path: Path) -> Path:
    return copy_package(tmp_path)


@pytest.fixture(scope="module")
def broken_report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What import-linter prints of a package in which every contract is broken: one run for all cases."""
    root = copy_package(tmp_path_factory.mktemp("broken"))
    for _, module, line in BREAKS:
        path = root / "mica_ray" / f"{module}.py"
        path.write_text(f"{path.read_text()}\n{line}\n")
    outcome = lint(root)
    assert outcome.returncode == 1, outcome.stdout + outcome.stderr
    return outcome.stdout.partition("Broken contracts")[2]


def section(report: str, contract: str) -> str:
    """Return what the report says about one broken contract, empty if it is kept."""
    name = re.escape(CONTRACTS[contract])
    found = re.search(rf"^{name}\n-+\n(.*?)(?=^[^\n]+\n-{{3,}}\n|\Z)", report, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def ray_parts(source: str) -> set[str]:
    """Name the parts of Ray that are imported: "train" for `import ray.train` or `from ray import train`."""
    parts: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        parts |= {name.split(".")[1] for name in names if name.startswith("ray.")}
    return parts


def misplaced_ray_parts(package: Path) -> list[str]:
    """List imports of Ray's libraries outside their folders; import-linter sees only Ray as a whole."""
    rooms = {
        "train": ("training/", "launch/run.py", "tuning/", "rllib/"),
        "tune": ("launch/run.py", "tuning/", "rllib/"),
        "serve": ("serving/",),
        "rllib": ("rllib/",),
    }
    return [
        f"{name} imports ray.{part}"
        for path in sorted(package.rglob("*.py"))
        for name in [path.relative_to(package).as_posix()]
        for part in sorted(ray_parts(path.read_text()) & rooms.keys())
        if not name.startswith(rooms[part])
    ]


def test_contracts_hold() -> None:
    outcome = lint(ROOT)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


@pytest.mark.parametrize(("contract", "module", "line"), BREAKS)
def test_contract_fails_when_broken(broken_report: str, contract: str, module: str, line: str) -> None:
    importer, imported = f"mica_ray.{module.replace('/', '.')}", line.split("import ")[1]
    assert f"{importer} -> {imported} (l." in section(broken_report, contract)


def test_module_without_a_layer_breaks_the_layers(copied_package: Path) -> None:
    (copied_package / "mica_ray" / "elsewhere.py").write_text("")
    assert "mica_ray.elsewhere" in lint(copied_package).stdout


def test_every_contract_is_broken_by_some_case() -> None:
    assert CONTRACTS.keys() == {contract for contract, _, _ in BREAKS}


def test_every_folder_has_a_contract_of_its_own() -> None:
    folders = {path.parent.name for path in (ROOT / "mica_ray").glob("*/__init__.py")}
    assert folders - CONTRACTS.keys() == {"types"}  # On the lowest layer: contracts "ground" and "torch".


def test_no_folder_has_twenty_or_more_files() -> None:
    folders = [path.parent for path in (ROOT / "mica_ray").rglob("__init__.py")]
    sizes = {str(folder): len(list(folder.glob("*.py"))) for folder in folders}
    assert {folder: size for folder, size in sizes.items() if size >= 20} == {}


def test_ray_libraries_stay_in_their_rooms() -> None:
    assert misplaced_ray_parts(ROOT / "mica_ray") == []


def test_ray_library_outside_its_room_is_found(copied_package: Path) -> None:
    package = copied_package / "mica_ray"
    (package / "training" / "sweep.py").write_text("def late():\n    from ray import tune, train\n")
    (package / "rollout" / "group.py").write_text("import ray.train.torch as group\n")
    found = misplaced_ray_parts(package)
    assert "training/sweep.py imports ray.tune" in found
    assert "rollout/group.py imports ray.train" in found
    assert "training/sweep.py imports ray.train" not in found


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("types seeding rewards credit packing", "ray vllm deepspeed transformers mlflow torch"),
        ("losses head_logprobs", "ray vllm deepspeed transformers mlflow"),
        ("chat dialogue domains", "ray vllm torch"),
    ],
)
def test_importing_a_low_floor_leaves_the_heavy_libraries_out(modules: str, absent: str) -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for module in modules.split()
        for path in [ROOT / "mica_ray" / f"{module}.py", *sorted((ROOT / "mica_ray" / module).glob("*.py"))]
        if path.exists()
    ]
    script = f"import {', '.join(names)}, sys\nprint(*(set({absent.split()}) & sys.modules.keys()))"
    outcome = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.strip() == ""


def test_credit_imports_with_numpy_alone() -> None:
    # Other trainers import our credit, so it must need no other package.
    script = """
import sys

class NumpyAlone:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in {"numpy", "mica_ray", *sys.stdlib_module_names}:
            raise ImportError(f"only numpy may be imported, got {name}")

sys.meta_path.insert(0, NumpyAlone())
import mica_ray.credit.token_credit
"""
    outcome = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert outcome.returncode == 0, outcome.stderr
