"""A lock file admits one holder at a time and is free after the holder has gone."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from mica_ray.config import ConfigError
from mica_ray.tuning.folder_lock import locked


def test_second_holder_is_refused_with_the_path_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "lock"
    with locked(path, "Another process is running. Stop it."):
        with pytest.raises(ConfigError) as caught, locked(path, "Another process is running. Stop it."):
            pass
        assert str(caught.value) == f"{path}: Another process is running. Stop it."
    with locked(path, "unused"):
        pass


def test_waiting_holder_gets_the_lock_when_it_is_released(tmp_path: Path) -> None:
    path, entered = tmp_path / "lock", threading.Event()

    def hold_briefly() -> None:
        with locked(path, "unused"):
            entered.set()
            time.sleep(0.5)

    holder = threading.Thread(target=hold_briefly)
    holder.start()
    assert entered.wait(timeout=30)
    with locked(path, "still held", wait_seconds=30):
        holder.join(timeout=30)
        assert not holder.is_alive()


def test_error_inside_the_context_releases_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(RuntimeError), locked(path, "unused"):
        raise RuntimeError
    with locked(path, "unused"):
        pass
