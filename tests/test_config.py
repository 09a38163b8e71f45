"""The run's config: overrides, one-line errors, and the way to JSON and back."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mica_ray.chat.model import ChatError, ChatReply, JsonSchema
from mica_ray.chat.openai_api import Endpoint
from mica_ray.config import ConfigError, Recording, RoleConfig, RunConfig
from mica_ray.config.engines import start_role_model
from mica_ray.config.overrides import override
from mica_ray.config.plan import gpus_wanted
from mica_ray.config.policy_source import check_context, embedded_facts, fetch_policy, read_policy_facts
from mica_ray.config.preflight import check_port, check_run
from mica_ray.config.references import load_module_file, resolve
from mica_ray.config.run_folder import RunFolder
from mica_ray.config.run_record import RunRecord
from mica_ray.config.world import build_world, read_domain
from mica_ray.credit import (
    AnchorStates,
    CreditEstimator,
    Grpo,
    LambdaReturns,
    Mica,
    ReinforcePlusPlus,
    ReturnToGo,
    TurnGae,
)
from mica_ray.dialogue.case_file import SpokenTurn
from mica_ray.dialogue.judger import Judger
from mica_ray.dialogue.progress import ProgressRules
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.domains.tutoring import TUTORING
from mica_ray.evaluation.empa import summarize
from mica_ray.rollout.embedded_policy import EmbeddedPolicyRecipe
from mica_ray.training.tracker import JsonlTracker
from mica_ray.types import (
    Judgement,
    Message,
    Sampling,
    Scenario,
    State,
    Stop,
    Trajectory,
    Turn,
    TurnRewards,
)
from tests.small_policy import small_folder

ENDPOINT = Endpoint(model="judge-1", base_url="http://127.0.0.1:1/v1", api_key_env="JUDGE_KEY")


@dataclass(frozen=True, slots=True)
class EveryTurnOne:
    """An estimator of the user's own, as a recipe might hold it."""

    scale: float = 1.0

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        return np.where(turns.valid, self.scale, 0.0)


@dataclass(frozen=True, slots=True)
class QuestionJudge:
    """A judge of the user's own that is no language model."""

    level: int = 1

    async def score(
        self, scenario: Scenario, dialogue: Sequence[SpokenTurn], *, state: State, seed: int
    ) -> Judgement:
        return Judgement((self.level, 0, 0), (0, 0, 0), (float(self.level), 0.0, 0.0))


@dataclass(frozen=True, slots=True)
class YesChat:
    """A role model of the user's own."""

    answer: str = "Yes."

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        return ChatReply(self.answer, "yes")


OWN_JUDGE, OWN_CHAT = f"{__name__}:QuestionJudge", f"{__name__}:YesChat"


def complain(*assignments: str) -> str:
    """Give the one line with which the assignments are refused."""
    with pytest.raises(ConfigError) as caught:
        override(RunConfig(), assignments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_override_reads_each_value_as_its_field_asks() -> None:
    config = override(
        RunConfig(),
        [
            "name=7b",
            "seed=3",
            "learner.learning_rate=1e-6",
            "learner.gradient_checkpointing=true",
            "learner.adam_betas=[0.8, 0.9]",
            "evaluation.max_scenarios=4",
            "out=runs/x",
            "rollout.sampling.top_p=0.5",
        ],
    )
    assert (config.name, config.seed, config.learner.learning_rate) == ("7b", 3, 1e-6)
    assert config.learner.gradient_checkpointing is True
    assert config.learner.adam_betas == (0.8, 0.9)
    assert (config.evaluation.max_scenarios, config.out) == (4, Path("runs/x"))
    assert config.rollout.sampling.top_p == 0.5
    assert override(config, ["evaluation.max_scenarios=null"]).evaluation.max_scenarios is None


def test_override_leaves_everything_else_as_it_was() -> None:
    changed = override(RunConfig(), ["credit.alpha=0.3"])
    assert changed.credit == Mica(alpha=0.3)
    assert override(changed, ["credit.alpha=0.5"]) == RunConfig()


def test_whole_estimator_can_be_chosen_and_then_changed() -> None:
    config = override(RunConfig(), ["credit=mica_ray.credit:ReinforcePlusPlus", "credit.kind=batch_idr"])
    assert config.credit == ReinforcePlusPlus(kind="batch_idr")
    assert override(config, ["credit=mica_ray.credit.grpo:Grpo"]).credit == Grpo()


@pytest.mark.parametrize(
    ("assignments", "estimator"),
    [
        (["credit=mica_ray.credit:ReturnToGo", "credit.gamma=0.9"], ReturnToGo(gamma=0.9)),
        (["credit=mica_ray.credit:AnchorStates", "credit.resolution=2"], AnchorStates(resolution=2.0)),
        (["credit=mica_ray.credit:TurnGae", "credit.lam=0.5"], TurnGae(lam=0.5)),
        (["credit=mica_ray.credit:LambdaReturns", "credit.scope=batch"], LambdaReturns(scope="batch")),
    ],
)
def test_every_estimator_can_be_named_and_is_stored_with_the_run(
    assignments: list[str], estimator: CreditEstimator
) -> None:
    config = override(RunConfig(), assignments)
    assert config.credit == estimator
    assert RunConfig.model_validate_json(config.model_dump_json()).credit == estimator


def test_fields_bound_to_each_other_move_together() -> None:
    # Each alone would be refused: the default context of 1024 does not hold replies of 2000 tokens.
    config = override(RunConfig(), ["rollout.sampling.max_tokens=2000", "rollout.context_length=4000"])
    assert (config.rollout.sampling.max_tokens, config.rollout.context_length) == (2000, 4000)


@pytest.mark.parametrize(
    ("assignment", "parts"),
    [
        ("learner.learning_rat=1", ["unknown key learner.learning_rat", "did you mean learning_rate"]),
        ("lerner.learning_rate=1", ["unknown key lerner", "did you mean learner"]),
        ("credit.alhpa=1", ["unknown key credit.alhpa", "did you mean alpha"]),
        ("seed.deep=1", ["unknown key seed.deep", "has no fields"]),
        ("credit.alpha=1.2", ["credit", "alpha must be in [0, 1]; got 1.2"]),
        ("learner.learning_rate=fast", ["learner.learning_rate", "number", "'fast'"]),
        ("credit=mica_ray.credit:Gropo", ["has no Gropo", "did you mean Grpo"]),
        ("credit=mica_ray.creddit:Grpo", ["cannot import mica_ray.creddit"]),
        ("credit=Grpo", ["module:NAME"]),
        ("credit=mica_ray.types:Status", ["must be a dataclass"]),
        ("roles.judge=gpt", ["roles.judge", "scripted", "vllm:MODEL", "'gpt'"]),
        ('roles.judge={"modl": "m"}', ["roles.judge", "unknown key modl of Endpoint", "did you mean model"]),
        ('roles.judge={"model": "m", "attempts": 0}', ["roles.judge", "attempts must be >= 1; got 0"]),
        (f"roles.actor={OWN_JUDGE}", ["actor", "QuestionJudge has no chat()"]),
        ("roles.judge=mica_ray.credit:Mica", ["roles.judge", "chat() or score()"]),
        (f'roles.judge={{"object": "{OWN_JUDGE}", "levle": 2}}', ["unknown key levle", "did you mean level"]),
        ('roles.judge={"recording": "a", "mode": "record"}', ["roles.judge", "needs an inner role"]),
        ('roles.judge={"recording": "a", "mode": "tape"}', ["roles.judge"]),
        (
            'roles={"judge": {"recording": "a"}, "actor": {"recording": "a", "mode": "record", "inner": '
            '"scripted"}}',
            ["a is another role's too"],
        ),
        ('roles={"judge": "vllm:m", "max_tokens": 4096}', ["engine.max_model_len must be above", "4096"]),
        ("learner.adam_betas=[1,", ["not JSON"]),
        ("num_engines=0", ["num_engines", "greater than or equal to 1", "got 0"]),
        ("learner.total_updates=7", ["learner.total_updates=7 must be 176", "loop.num_steps"]),
        ("engine.weight_transfer=tcp", ["engine.weight_transfer", "'tcp'"]),
        ("name=a/b", ["name", "'a/b'"]),
        ("seed", ["--set seed", "key.path=value"]),
    ],
)
def test_bad_assignment_is_one_line_with_key_and_remedy(assignment: str, parts: list[str]) -> None:
    message = complain(assignment)
    assert [part for part in parts if part not in message] == []


def test_config_survives_json(tmp_path: Path) -> None:
    config = RunConfig(
        credit=EveryTurnOne(scale=2.0),
        domain=TUTORING,  # pyright: ignore[reportArgumentType] -- a recipe may give the value itself
        roles=RoleConfig(judge=ENDPOINT, actor="vllm:Qwen/Qwen3-8B"),
        out=Path("runs/x"),
    )
    config.write(tmp_path / "config.json")
    again = RunConfig.read(tmp_path / "config.json")
    assert again == config
    assert again.credit == EveryTurnOne(scale=2.0)
    assert again.domain == "mica_ray.domains.tutoring:TUTORING"
    assert again.roles.served_models == ("Qwen/Qwen3-8B",)


def test_estimator_of_a_recipe_file_is_found_again(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.py"
    recipe.write_text(
        "from dataclasses import dataclass\nimport numpy as np\nfrom mica_ray.config import RunConfig\n"
        "@dataclass(frozen=True)\nclass Mine:\n    beta: float = 1.0\n"
        "    def __call__(self, turns):\n        return np.where(turns.valid, self.beta, 0.0)\n"
        "CONFIG = RunConfig(credit=Mine(beta=0.5))\n"
    )
    config = resolve(f"{recipe}:CONFIG")
    assert isinstance(config, RunConfig)
    again = RunConfig.model_validate_json(config.model_dump_json())
    assert again.credit == config.credit
    assert override(config, ["credit.beta=0.25"]).model_dump()["credit"]["beta"] == 0.25


def test_unknown_key_of_a_stored_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"loop": {"num_stepz": 3}}))
    with pytest.raises(ConfigError, match=r"unknown key loop.num_stepz; did you mean num_steps"):
        RunConfig.read(tmp_path / "config.json")


def test_broken_recipe_is_one_line_with_its_error(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("raise RuntimeError('two\\nlines')\n")
    with pytest.raises(ConfigError, match=r"bad.py: RuntimeError: two$"):
        load_module_file(tmp_path / "bad.py")


def test_learner_schedule_spans_the_run() -> None:
    config = override(RunConfig(), ["loop.num_steps=10", "learner.mini_batches=2", "learner.epochs=3"])
    assert config.whole_learner.total_updates == 60


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
    world = build_world(RunConfig(roles=roles), environment={}, served={}.__getitem__)
    scenario = world.scenarios("test")[0]
    dialogue = world.environment(scenario, 0)
    await dialogue.open()
    exchange = await dialogue.respond("What hurts most?")
    assert exchange.judgement.delta == (2.0, 0.0, 0.0)
    assert exchange.user == {"role": "user", "content": "Go on."}


async def test_recorded_role_is_replayed_without_being_asked(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    exchanges = []
    for role in (Recording(path, "record", inner="scripted"), Recording(path)):
        config = RunConfig(roles=RoleConfig(actor=role, director=role, judge=role))
        check_run(config, inline=True, environment={}, gpus_here=0)
        world = build_world(config, environment={}, served={}.__getitem__)
        dialogue = world.environment(world.scenarios("test")[0], 0)
        await dialogue.open()
        exchanges.append(await dialogue.respond("That sounds hard. What hurts most?"))
    assert exchanges[0] == exchanges[1]
    assert exchanges[1].judgement.is_valid
    # Judge, director and actor, each once; the replay added none.
    assert len(path.read_text().splitlines()) == 3


async def test_served_role_model_has_the_context_of_its_own_engine(tmp_path: Path) -> None:
    model = small_folder(tmp_path / "judge", tied=True)
    roles = [f"roles.judge=vllm:{model}", "roles.engine.max_model_len=300", "roles.max_tokens=8"]
    config = override(RunConfig(), [*roles, "rollout.context_length=64"])
    chat, engine = await start_role_model(config, str(model), inline=True)
    sampling = Sampling(max_tokens=8, temperature=0.0)
    # 200 characters are at most 200 tokens: more than the policy's 64, less than the judge's 300.
    reply = await chat.chat([{"role": "user", "content": "xz" * 100}], sampling)
    assert reply.prompt_tokens > 64
    with pytest.raises(ChatError, match="300"):
        await chat.chat([{"role": "user", "content": "xz" * 200}], sampling)
    await engine.close()


def test_rules_of_a_run_take_the_place_of_the_domain_s() -> None:
    config = override(RunConfig(), ['rules={"max_turns": 15, "check_from": 12}'])
    assert config.rules == ProgressRules(max_turns=15, check_from=12)
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    assert build_world(config, environment={}, served={}.__getitem__).domain.rules == config.rules
    assert read_domain(RunConfig()).rules == EMOTIONAL_SUPPORT.rules
    assert override(config, ["rules=null"]).rules is None


def test_chat_template_arguments_keep_their_types_in_json() -> None:
    config = override(RunConfig(), ['chat_template_arguments={"enable_thinking": false, "depth": 2}'])
    again = RunConfig.model_validate_json(config.model_dump_json())
    assert again.chat_template_arguments == {"enable_thinking": False, "depth": 2}
    assert again.chat_template_arguments["enable_thinking"] is False


@pytest.mark.parametrize(
    ("recipe", "max_turns"),
    [("mica_qwen25_7b.py:CONFIG", 15), ("mica_qwen3.py:qwen3_8b", 15), ("mica_qwen3.py:qwen3_14b", 30),
     ("mica_qwen3.py:qwen3_32b", 30)],
)  # fmt: skip
def test_recipe_of_the_paper_says_when_a_dialogue_ends(recipe: str, max_turns: int) -> None:
    found = resolve(f"{Path(__file__).parents[1]}/experiments/{recipe}")
    config = found() if callable(found) else found
    assert isinstance(config, RunConfig)
    assert config.rules == ProgressRules(max_turns=max_turns, check_from=12)
    thinking = {"enable_thinking": False} if "Qwen3" in config.policy else {}
    assert config.chat_template_arguments == thinking


def make_policy(folder: Path, *, template: bool = True, tokenizer: bool = True, context: int = 512) -> Path:
    folder.mkdir()
    config = {"architectures": ["Qwen3ForCausalLM"], "max_position_embeddings": context, "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config))
    if tokenizer:
        (folder / "tokenizer.json").write_text("{}")
    if template:
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    return folder


def test_policy_without_tokenizer_or_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no tokenizer"):
        read_policy_facts(make_policy(tmp_path / "a", tokenizer=False))
    with pytest.raises(ConfigError, match="no chat template"):
        read_policy_facts(make_policy(tmp_path / "b", template=False))
    with pytest.raises(ConfigError, match="no such folder"):
        fetch_policy(str(tmp_path / "c"))


def test_context_longer_than_the_models_is_refused(tmp_path: Path) -> None:
    facts = read_policy_facts(make_policy(tmp_path / "a", context=512))
    check_context(facts, 512, "rollout.context_length")
    with pytest.raises(ConfigError, match=r"rollout.context_length: 513 tokens exceed 512.*=512 or less"):
        check_context(facts, 513, "rollout.context_length")


def test_port_in_use_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"dashboard_port: port {port} is in use"):
            check_port(port, "dashboard_port")


@pytest.mark.parametrize(
    ("assignments", "complaint"),
    [
        (["engine.gpus_per_engine=1", "num_engines=2"], "2 GPUs asked for, 1 there"),
        (["rollout.context_length=4096"], "4096 tokens exceed 1024"),
        (["engine.max_model_len=512"], "set engine.max_model_len as well"),
        (["engine.max_model_len=2048"], "engine.max_model_len: 2048 tokens exceed 1024, .*embedded"),
        (["roles.judge=vllm:/no/such/model"], "roles.judge /no/such/model: no such folder"),
        (['roles.judge={"recording": "/no/such/calls"}'], "roles.judge: no recording /no/such/calls"),
        (["learner.mini_batches=17"], "17 mini-batches cannot be made of 16 scenarios"),
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
    with pytest.raises(ConfigError, match=r"roles.engine.max_model_len: 4096 tokens exceed 2048.*judge"):
        check_run(override(RunConfig(), roles), inline=False, environment={}, gpus_here=0)
    config = override(RunConfig(), [*roles, "roles.engine.max_model_len=2048"])
    plan = dict(check_run(config, inline=False, environment={}, gpus_here=0).lines)
    assert plan["engines"] == f"1 vLLM actor, 0 GPUs each; 1 vLLM actor, 0 GPUs each of {model} for roles"
    assert f"{model}: 4 GiB KV cache" in plan["engine memory"]


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
    plan = dict(check_run(RunConfig(), inline=False, environment={}, gpus_here=0).lines)
    assert re.match(r"\d+ MiB over up to 1 shard, and activations", plan["learner memory"])
    assert re.fullmatch(r"1 GiB KV cache and \d MiB of weights each", plan["engine memory"])
    assert plan["engines"] == "1 vLLM actor, 0 GPUs each"
    assert plan["learner"].startswith("1 Ray Train worker,")


def test_plan_counts_what_will_be_started() -> None:
    config = override(RunConfig(), ["num_engines=2", "ray_learner.num_workers=2", "ray_learner.zero_stage=3"])
    plan = dict(check_run(config, inline=False, environment={}, gpus_here=0).lines)
    assert plan["engines"].startswith("2 vLLM actors")
    assert "2 Ray Train workers, DeepSpeed ZeRO 3" in plan["learner"]


def test_endpoint_without_its_key_is_refused() -> None:
    config = RunConfig(roles=RoleConfig(judge=ENDPOINT))
    with pytest.raises(ConfigError, match="JUDGE_KEY is not set"):
        check_run(config, inline=True, environment={}, gpus_here=0)
    world = build_world(config, environment={"JUDGE_KEY": "k"}, served={}.__getitem__)
    assert isinstance(world.judge, Judger)
    assert world.actor.model is world.director.model is not world.judge.model


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


def test_run_folder_is_never_shared_by_two_runs(tmp_path: Path) -> None:
    RunFolder.create(RunConfig(), tmp_path / "run")
    with pytest.raises(ConfigError, match="not empty"):
        RunFolder.create(RunConfig(), tmp_path / "run")


def test_evaluation_dialogues_are_strict_json_without_credit(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path / "run")
    scenario = read_domain(RunConfig()).split("test")[0]
    judgement = Judgement((1, 0, 0), (0, 0, 0), (1.0, 0.0, 0.0))
    c, a, p = scenario.initial_state
    turn = Turn(0, scenario.opening, "I hear you.", judgement, (c + 1.0, a, p))
    evaluation = summarize([Trajectory(scenario, 0, 0, (turn,), Stop.LIMIT)], seed=0)
    tracker = JsonlTracker(folder.metrics)
    RunRecord(RunConfig(), folder).keep_evaluation("before", evaluation, tracker, step=0)

    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is no JSON")

    text = folder.evaluation_dialogues("before").read_text()
    (written,) = json.loads(text, parse_constant=refuse)["turns"]
    assert (written["return"], written["advantage"]) == (None, None)
    assert written["reward"] > 0


def test_kept_evaluation_is_read_back(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path / "run")
    assert folder.read_evaluation("before", seed=0) is None
    folder.write_evaluation("before", summarize([], seed=0))
    again = folder.read_evaluation("before", seed=0)
    assert again is not None
    assert again.rows == ()
