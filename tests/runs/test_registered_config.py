"""A registered model is served with the domain and the template arguments of the run that trained it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from mica_ray.config.references import ConfigError
from mica_ray.config.run_config import RunConfig
from mica_ray.config.trust import give_trust, withdraw_trust
from mica_ray.domains.tutoring import TUTORING
from mica_ray.files import write_json
from mica_ray.runs.folder import RunFolder
from mica_ray.runs.registration import register_policy, registered_config, set_alias


def registered(path: Path, config: RunConfig) -> RunFolder:
    """Register the policy of a finished run, which has no weights, as models:/support@champion."""
    folder = RunFolder.create(config, path)
    policy = path / "checkpoints" / "step" / "policy"
    policy.mkdir(parents=True)
    (policy / "config.json").write_text("{}")
    client = MlflowClient(tracking_uri=folder.tracking_uri)
    folder.write_tracking_run(client.create_run(client.create_experiment("mica")).info.run_id)
    scores = {name: {"epm_q": {"estimate": 1.0}} for name in ("after", "difference")}
    write_json(folder.summary, {"policy": str(policy), "contaminated": False, **scores})
    set_alias(register_policy(folder, "support"), "champion", {})
    return folder


def test_the_config_of_the_run_comes_with_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    withdraw_trust()
    trained = RunConfig(
        domain=TUTORING,  # pyright: ignore[reportArgumentType] -- a recipe may use the value itself
        chat_template_arguments={"enable_thinking": False},
        out=tmp_path / "elsewhere",
    )
    folder = registered(tmp_path / "run", trained)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", folder.tracking_uri)
    served = registered_config("models:/support@champion")
    assert served.domain == "mica_ray.domains.tutoring:TUTORING"
    assert served.chat_template_arguments == {"enable_thinking": False}
    assert served.rollout.sampling == trained.rollout.sampling
    assert (served.out, served.tracking_uri) == (None, None)
    assert Path(served.policy, "config.json").is_file()

    client = MlflowClient(tracking_uri=folder.tracking_uri)
    source = Path(
        str(client.get_model_version_by_alias("support", "champion").source).removeprefix("file://")
    )
    stored = source / "mica_config.json"
    # A registry that somebody else writes to is not trusted either.
    stored.write_text(json.dumps({"domain": "evil_module:DOMAIN"}))
    with pytest.raises(ConfigError, match=r"evil_module:DOMAIN.*--trust"):
        registered_config("models:/support@champion")
    give_trust()
    assert registered_config("models:/support@champion").domain == "evil_module:DOMAIN"
    withdraw_trust()
    # A version of before has no config.
    stored.unlink()
    assert registered_config("models:/support@champion").domain == RunConfig().domain
    assert "has no mica_config.json" in caplog.text
    shutil.rmtree(source)
    with pytest.raises(ConfigError, match="models:/support@champion"):
        registered_config("models:/support@champion")
