"""Checks before a run starts, and the plan of what it will start."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

from mica_ray.config import ConfigError, RoleConfig, RunConfig
from mica_ray.config.overrides import override
from mica_ray.dialogue.judger import Judger
from mica_ray.embedded.recipe import EmbeddedPolicyRecipe
from mica_ray.launch.domain_source import read_domain
from mica_ray.launch.plan import gpus_wanted
from mica_ray.launch.policy_source import check_context, embedded_facts, fetch_policy, read_policy_facts
from mica_ray.launch.preflight import check_port, check_run
from mica_ray.launch.world import build_world
from tests.config.own_roles import ENDPOINT
from tests.small_policy import small_folder


def make_policy(folder: Path, *, template: bool = True, tokenizer: bool = True, context: int = 512) -> Path:
    small_folder(folder, tied=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": context}))
    if not tokenizer:
        (folder / "tokenizer.json").unlink()
    if not template:
        (folder / "chat_template.jinja").unlink()
    return folder


def test_policy_without_tokenizer_or_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the tokenizer .* is missing"):
        read_policy_facts(make_policy(tmp_path / "a", tokenizer=False))
    with pytest.raises(ConfigError, match=r"the chat template .* is missing"):
        read_policy_facts(make_policy(tmp_path / "b", template=False))
    with pytest.raises(ConfigError, match="no such folder"):
        fetch_policy(str(tmp_path / "c"))


def test_context_longer_than_the_models_is_refused(tmp_path: Path) -> None:
    facts = read_policy_facts(make_policy(tmp_path / "a", context=512))
    check_context(facts, 512, "rollout.context_length")
    with pytest.raises(ConfigError, match=r"rollout.context_length must be <= 512 .*got 513"):
        check_context(facts, 513, "rollout.context_length")


def test_port_in_use_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"dashboard_port: port {port} is already in use"):
            check_port(port, "dashboard_port")


@pytest.mark.parametrize(
    ("assignments", "complaint"),
    [
        (["engine.gpus_per_engine=1", "num_engines=2"], "The run needs 2 GPUs, 1 available"),
        (["rollout.context_length=4096"], "rollout.context_length must be <= 1024 .*got 4096"),
        (["engine.max_model_len=512"], "Raise engine.max_model_len as well"),
        (["engine.max_model_len=2048"], "engine.max_model_len must be <= 1024 .*embedded.*got 2048"),
        (["roles.judge=vllm:/no/such/model"], "roles.judge /no/such/model: no such folder"),
        (
            ['roles.judge={"recording": "/no/such/calls"}'],
            "recording /no/such/calls does not exist",
        ),
        (
            ["learner.mini_batches=17"],
            r"mini_batches must be <= loop.scenarios_per_step \(16\), got 17",
        ),
        (["domain=mica_ray.domains.tutoring:LEARNERS"], "not a Domain"),
        (["out=/proc/nothing"], "GiB free"),
    ],
)
def test_run_that_cannot_work_is_refused_before_it_starts(assignments: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        check_run(override(RunConfig(), assignments), inline=False, environment={}, gpus_here=1)


def test_role_model_too_short_for_its_engine_is_refused(tmp_path: Path) -> None:
    model = make_policy(tmp_path / "judge", context=2048)
    roles = [f"roles.judge=vllm:{model}"]
    with pytest.raises(ConfigError, match=r"roles.engine.max_model_len must be <= 2048 .*judge.*got 4096"):
        check_run(override(RunConfig(), roles), inline=False, environment={}, gpus_here=0)
    config = override(RunConfig(), [*roles, "roles.engine.max_model_len=2048"])
    plan = dict(check_run(config, inline=False, environment={}, gpus_here=0).plan.lines)
    assert plan["engines"] == f"1 vLLM actor, 0 GPUs each; 1 vLLM actor, 0 GPUs each for role model {model}"
    assert "KV cache 64 MiB" in plan[f"engine of {model}, memory"]


def test_engines_of_roles_are_counted_with_their_own_config(tmp_path: Path) -> None:
    model = make_policy(tmp_path / "judge", context=8192)
    config = override(
        RunConfig(),
        [f"roles.judge=vllm:{model}", "roles.num_engines=2", "roles.engine.gpus_per_engine=0.5",
         "engine.gpus_per_engine=1", "ray_learner.gpus_per_worker=1"],
    )  # fmt: skip
    # One engine and one learner worker of one GPU each, two role engines of half a GPU.
    assert gpus_wanted(config) == 3.0


def test_size_of_the_embedded_policy_follows_from_its_recipe() -> None:
    recipe = EmbeddedPolicyRecipe(vocabulary_size=100, hidden_size=64, num_layers=1, num_heads=2)
    # Embedding 100 x 64; attention 4 x 64 x 64, MLP 3 x 64 x 192, norms 2 x 64 + 2 x 32; last norm 64.
    assert embedded_facts(recipe).parameters == 6400 + 16384 + 36864 + 192 + 64


def test_plan_of_the_embedded_run_knows_its_memory() -> None:
    plan = dict(check_run(RunConfig(), inline=False, environment={}, gpus_here=0).plan.lines)
    assert re.match(r"at most [\d.]+ GiB: process .*, weights 3 MiB", plan["learner worker, memory"])
    assert "KV cache 0.2 GiB" in plan["policy engine, memory"]
    assert plan["host memory"].endswith("that of the cluster's nodes is not known")
    assert plan["engines"] == "1 vLLM actor, 0 GPUs each"
    assert plan["learner"].startswith("1 Ray Train worker,")


def test_plan_counts_what_will_be_started() -> None:
    config = override(RunConfig(), ["num_engines=2", "ray_learner.num_workers=2", "ray_learner.zero_stage=3"])
    plan = dict(check_run(config, inline=False, environment={}, gpus_here=0).plan.lines)
    assert plan["engines"].startswith("2 vLLM actors")
    assert "2 Ray Train workers, DeepSpeed ZeRO 3" in plan["learner"]


def test_endpoint_without_its_key_is_refused() -> None:
    config = RunConfig(roles=RoleConfig(judge=ENDPOINT))
    with pytest.raises(ConfigError, match="JUDGE_KEY is not set"):
        check_run(config, inline=True, environment={}, gpus_here=0)
    domain = read_domain(config).played
    world = build_world(config.roles, domain, environment={"JUDGE_KEY": "k"}, served={}.__getitem__)
    assert isinstance(world.judge, Judger)
    assert world.actor.model is world.director.model is not world.judge.model
