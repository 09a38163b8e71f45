"""The floors hold: the contracts of pyproject.toml pass, and each of them fails when it is broken."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")

BREAKS = [
    ("layers", "types/dialogue", "import mica_ray.training.learner"),
    ("layers", "chat/model", "from mica_ray.dialogue import domain"),
    ("ground", "rewards", "import transformers"),
    ("ground", "packing", "import asyncio"),
    ("torch", "credit/__init__", "import torch"),
    ("torch", "packing", "def late() -> None:\n    import torch.nn"),
    ("language", "dialogue/domain", "import torch"),
    ("language", "chat/model", "from ray import get"),
    ("rollout", "rollout/engine", "import deepspeed"),
    ("evaluation", "evaluation/__init__", "from mica_ray.training import learner"),
    ("ray", "training/learner", "import ray.train"),
]
"""Contract, module that breaks it, line that breaks it."""


def lint(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache"], cwd=directory, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def copied_package(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "mica_ray", tmp_path / "mica_ray", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


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
    """List imports of Ray's libraries outside their rooms; import-linter sees only Ray as a whole."""
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
def test_contract_fails_when_broken(copied_package: Path, contract: str, module: str, line: str) -> None:
    path = copied_package / "mica_ray" / f"{module}.py"
    path.write_text(f"{path.read_text()}\n{line}\n")
    outcome = subprocess.run(
        [LINT_IMPORTS, "--no-cache", "--contract", contract],
        cwd=copied_package, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert outcome.returncode == 1, outcome.stdout + outcome.stderr
    assert "0 kept, 1 broken" in outcome.stdout


def test_module_without_a_floor_breaks_the_floors(copied_package: Path) -> None:
    (copied_package / "mica_ray" / "elsewhere.py").write_text("")
    assert "mica_ray.elsewhere" in lint(copied_package).stdout


def test_every_contract_is_broken_by_some_case() -> None:
    settings = (ROOT / "pyproject.toml").read_text().split("[[tool.importlinter.contracts]]")[1:]
    names = {section.split('id = "')[1].split('"')[0] for section in settings}
    assert names == {contract for contract, _, _ in BREAKS}


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
        ("losses", "ray vllm deepspeed transformers mlflow"),
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
