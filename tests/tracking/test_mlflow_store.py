"""The login that MLflow reads from the environment is checked first, and never shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mica_ray.tracking.mlflow_store import connect, start_run

TOKEN = "token-Zq7Xw2Rv9Lk4"


def test_line_ends_around_a_login_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", f"{TOKEN}\r\n")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pass word\r")
    connect("http://127.0.0.1:1")
    assert (os.environ["MLFLOW_TRACKING_TOKEN"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == (
        TOKEN,
        "pass word",
    )


def test_token_that_is_none_names_the_variable_and_not_the_token(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", f"{TOKEN[:9]}\u200b{TOKEN[9:]}")
    with pytest.raises(ValueError, match="MLFLOW_TRACKING_TOKEN contains an invisible character") as caught:
        start_run("http://127.0.0.1:1", experiment="e", run_name="r", artifacts=tmp_path)
    assert TOKEN[:8] not in str(caught.value) and TOKEN[-8:] not in str(caught.value)
