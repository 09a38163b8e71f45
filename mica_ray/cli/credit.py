"""`mica credit FILES`: stored dialogues under several estimators, without new rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mica_ray.config.references import ConfigError


def run_credit(
    files: Sequence[Path],
    *,
    estimators: Sequence[str],
    alpha: float,
    gamma: float,
    scope: str,
    reward: str,
    group_by: str | None,
    out: Path | None,
    json_file: Path | None,
) -> None:
    """Compare the estimators on the dialogues of the files.

    Raises:
        ConfigError: one line for what cannot be credited; nothing was written.
    """
    missing = [path for path in files if not path.exists()]
    if missing:
        raise ConfigError(f"{missing[0]}: no such file or folder; give a run folder or files of dialogues")
