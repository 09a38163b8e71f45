"""The world of a run: roles of every kind, rules, scenarios."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mica_ray.chat.model import ChatError
from mica_ray.config import ConfigError, Recording, RoleConfig, RunConfig
from mica_ray.config.overrides import override
from mica_ray.dialogue.judger import Judger
from mica_ray.dialogue.progress import ProgressRules
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.domains.empa import EMPA
from mica_ray.launch.domain_source import read_domain
from mica_ray.launch.preflight import check_run
from mica_ray.launch.start_engines import start_role_model
from mica_ray.launch.world import build_world
from mica_ray.types import (
    Sampling,
)
from tests.config.own_roles import ENDPOINT, OWN_CHAT, OWN_JUDGE, QuestionJudge, YesChat
from tests.small_policy import small_folder


def test_one_text_names_all_three_roles() -> None:
    roles = override(RunConfig(), ["roles=vllm:some/model"]).roles
    assert {roles.actor, roles.director, roles.judge} == {"vllm:some/model"}


@pytest.mark.parametrize(
    ("assignment", "judge"),
    [
        (f"roles.judge={OWN_JUDGE}", QuestionJudge()),
        (f'roles.judge={{"object": "{OWN_JUDGE}", "level": 2}}', QuestionJudge(level=2)),
        (f"roles={OWN_CHAT}", YesChat()),
        ('roles.judge={"recording": "a/b.jsonl"}', Recording(Path("a/b.jsonl"))),
        (
            'roles.judge={"recording": "a", "mode": "record", "inner": {"model": "judge-1", '
            '"base_url": "http://127.0.0.1:1/v1", "api_key_env": "JUDGE_KEY"}}',
            Recording(Path("a"), "record", ENDPOINT),
        ),
    ],
)
def test_role_of_any_kind_is_read_and_survives_json(assignment: str, judge: object) -> None:
    config = override(RunConfig(), [assignment])
    assert config.roles.judge == judge
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    assert override(config, ["roles.judge=scripted"]).roles.judge == "scripted"


def test_field_of_an_own_role_is_a_key() -> None:
    config = override(RunConfig(), [f'roles.judge={{"object": "{OWN_JUDGE}"}}', "roles.judge.level=2"])
    assert config.roles.judge == QuestionJudge(level=2)


async def test_own_judge_and_own_role_models_play_the_dialogue() -> None:
    roles = RoleConfig(actor=YesChat("Go on."), judge=QuestionJudge(level=2))
    world = build_world(roles, EMOTIONAL_SUPPORT, environment={}, served={}.__getitem__)
    scenario = world.scenarios("test")[0]
    dialogue = world.environment(scenario, 0)
    await dialogue.open()
    exchange = await dialogue.respond("What hurts most?")
    assert exchange.judgement.delta == (2.0, 0.0, 0.0)
    assert exchange.user == {"role": "user", "content": "Go on."}


@pytest.mark.parametrize(
    ("role", "shows_needs", "sees_needs"),
    [
        ("scripted", None, True),
        ("scripted", False, True),
        (YesChat(), False, False),
        (YesChat(), None, True),
        (ENDPOINT, None, False),
        (ENDPOINT, True, True),
        ("vllm:some/model", None, False),
        (Recording(Path("a"), "record", ENDPOINT), None, False),
        (Recording(Path("a"), "record", "scripted"), None, True),
    ],
)
def test_language_models_see_what_empa_s_roles_see(
    role: Any, shows_needs: bool | None, sees_needs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    roles = RoleConfig(judge=role, shows_needs=shows_needs)
    served = {"some/model": YesChat()}.__getitem__
    world = build_world(roles, EMOTIONAL_SUPPORT, environment={"JUDGE_KEY": "k"}, served=served)
    assert isinstance(world.judge, Judger)
    assert world.judge.domain.shows_needs is sees_needs
    # The other two roles are scripted.
    assert world.actor.domain.shows_needs and world.director.domain.shows_needs


def test_no_role_of_empa_sees_more_than_in_empa_unless_it_is_scripted() -> None:
    world = build_world(RoleConfig(judge=YesChat()), EMPA, environment={}, served={}.__getitem__)
    assert isinstance(world.judge, Judger)
    assert (world.judge.domain.shows_needs, world.actor.domain.shows_needs) == (False, True)


async def test_recorded_role_is_replayed_without_being_asked(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    exchanges = []
    for role in (Recording(path, "record", inner="scripted"), Recording(path, inner="scripted")):
        config = RunConfig(roles=RoleConfig(actor=role, director=role, judge=role))
        checked = check_run(config, inline=True, environment={}, gpus_here=0)
        world = build_world(config.roles, checked.domain, environment={}, served={}.__getitem__)
        dialogue = world.environment(world.scenarios("test")[0], 0)
        await dialogue.open()
        exchanges.append(await dialogue.respond("That sounds hard. What hurts most?"))
    assert exchanges[0] == exchanges[1]
    assert exchanges[1].judgement.is_valid
    # One call of judge, director and actor; the replay adds none.
    assert len(path.read_text().splitlines()) == 3


async def test_served_role_model_has_the_context_of_its_own_engine(tmp_path: Path) -> None:
    model = small_folder(tmp_path / "judge", tied=True)
    roles = [f"roles.judge=vllm:{model}", "roles.engine.max_model_len=300", "roles.max_tokens=8"]
    config = override(RunConfig(), [*roles, "rollout.context_length=64"])
    chat, engine = await start_role_model(config, str(model), inline=True)
    sampling = Sampling(max_tokens=8, temperature=0.0)
    # 200 characters are at most 200 tokens: more than the policy's context of 64, less than the judge's 300.
    reply = await chat.chat([{"role": "user", "content": "xz" * 100}], sampling)
    assert reply.prompt_tokens > 64
    with pytest.raises(ChatError, match="300"):
        await chat.chat([{"role": "user", "content": "xz" * 200}], sampling)
    await engine.close()


def test_rules_of_a_run_take_the_place_of_the_domain_s() -> None:
    config = override(RunConfig(), ['rules={"max_turns": 15, "check_from": 12}'])
    assert config.rules == ProgressRules(max_turns=15, check_from=12)
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    assert read_domain(config).played.rules == config.rules
    assert read_domain(RunConfig()).played.rules == EMOTIONAL_SUPPORT.rules
    assert override(config, ["rules=null"]).rules is None


def test_missing_field_of_a_scenario_file_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    good = {
        "id": "m1", "category": "work", "dominant_axis": "C", "persona": "Ann.", "opening": "Hi.",
        "initial_state": [-5, -5, -5], "stages": ["One."], "split": "train",
    }  # fmt: skip
    bad = {key: value for key, value in good.items() if key != "opening"} | {"id": "m2"}
    path.write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n")
    with pytest.raises(ConfigError, match=r"mine.jsonl, line 2: field 'opening' is missing"):
        read_domain(RunConfig(scenarios_file=path))
