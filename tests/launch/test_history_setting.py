"""The history that a policy was trained with: stored with it, and used wherever it replies again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mica_ray.cli import main
from mica_ray.cli.recipes import read_config, read_model
from mica_ray.config import ConfigError, RunConfig
from mica_ray.config.overrides import override
from mica_ray.launch import run
from mica_ray.launch.benchmark import dialogue_settings
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.runs.folder import RunFolder
from mica_ray.serving.model_replica import ModelSpec
from mica_ray.serving.request_template import RequestTemplate
from mica_ray.training.checkpoint import Checkpoints
from mica_ray.training.progress import SilentProgress
from mica_ray.types import Generation, Message
from tests.rollout.template_families import QWEN3_OFF
from tests.small_policy import small_folder, small_tokenizer
from tests.training.test_checkpoint import CountingLearner, state_at

TINY = (
    "rollout.history=as_sampled", "loop.num_steps=1", "loop.scenarios_per_step=2", "learner.mini_batches=1",
    "loop.track_policy=false", "rollout.group_size=2", "rollout.sampling.max_tokens=6",
    "rollout.context_length=512", "evaluation.max_scenarios=1", "evaluation.samples=1",
)  # fmt: skip
MESSAGES: list[Message] = [
    {"role": "user", "content": "I lost my job."},
    {"role": "assistant", "content": "I see."},
    {"role": "user", "content": "Yes."},
]


def qwen3_folder(path: Path) -> Path:
    """A small policy whose template rewrites earlier turns, as Qwen3's does."""
    folder = small_folder(path, tied=True)
    (folder / "chat_template.jinja").write_text(QWEN3_OFF)
    return folder


class PolicyLearner(CountingLearner):
    """A learner that saves a policy folder."""

    def __init__(self, policy: Path) -> None:
        super().__init__()
        self.policy = policy

    def save(self, directory: Path, *, copied: Callable[[], object] | None = None) -> None:
        super().save(directory)
        shutil.copytree(self.policy, directory / "policy")

    def committed(self, directory: Path) -> None: ...


def trained_run(path: Path, policy: Path) -> Path:
    """A run folder with the checkpoint of a policy that was trained with its history as sampled."""
    config = override(RunConfig(), [*TINY, f"policy={policy}"])
    folder = RunFolder.create(config, path)
    template = ChatTemplate.from_folder(policy, history="as_sampled")
    Checkpoints(folder.checkpoints, policy_files=template.own_files).save(state_at(1), PolicyLearner(policy))
    return path


async def keeps_history(model: str) -> bool:
    """Whether the started policy of a model continues the sampled tokens, as evaluation and chat start it."""
    config = read_model(model, ["rollout.context_length=512"])
    checked = run.check(config, inline=True, learns=False)
    async with run.set_up(checked, progress=SilentProgress()) as parts:
        template = parts.policy(config).template
        prompt = template.prompt(MESSAGES[:1])
        last = Generation(prompt, (70, 71), (0.0, 0.0), "ab", "length", 0)
        return template.next_prompt(MESSAGES, last)[: len(prompt) + 2] == (*prompt, 70, 71)


async def test_evaluation_and_chat_of_a_trained_policy_keep_its_history(tmp_path: Path) -> None:
    policy = qwen3_folder(tmp_path / "base")
    trained = trained_run(tmp_path / "run", policy)
    assert read_model(str(trained), ()).rollout.history == "as_sampled"
    saved = trained / "checkpoints" / "step-000001" / "learner" / "policy"
    assert await keeps_history(str(trained))
    # The folder of the policy is enough, without the run and its config.
    assert read_model(str(saved), ()).rollout.history == "template"
    assert await keeps_history(str(saved))
    assert not await keeps_history(str(policy))


def test_service_of_a_trained_policy_renders_its_history(tmp_path: Path) -> None:
    policy = qwen3_folder(tmp_path / "base")
    trained = trained_run(tmp_path / "run", policy)
    saved = trained / "checkpoints" / "step-000001" / "learner" / "policy"
    plan = tmp_path / "plan.json"
    asked = ["serve", str(trained), str(policy), "--sampler", "transformers", "--json", str(plan)]
    limits = ["--set", "rollout.context_length=512", "--set", "engine.max_model_len=512"]
    with pytest.raises(SystemExit) as ended:
        main([*asked, "--dry-run", *limits])
    assert ended.value.code == 0
    histories = [model["history"] for model in json.loads(plan.read_text())["models"]]
    assert histories == ["as_sampled", "template"]
    expected = ChatTemplate.from_folder(policy, history="as_sampled").prompt(MESSAGES)
    for spec in (ModelSpec("m", str(policy), history="as_sampled"), ModelSpec("m", str(saved))):
        assert spec.template().prompt(MESSAGES) == expected
    assert ModelSpec("m", str(policy)).template().prompt(MESSAGES) != expected


def test_arguments_of_a_client_keep_the_history() -> None:
    off = "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
    source = QWEN3_OFF.replace("<think>\n\n</think>\n\n", off)
    template = ChatTemplate(small_tokenizer(source), history="as_sampled")
    asked = RequestTemplate(template).with_arguments({"enable_thinking": False})
    assert asked is not template
    ids = asked.prompt(MESSAGES)
    assert str(small_tokenizer().decode(list(ids))).count("</think>") == 2


def test_resumed_run_keeps_its_history(tmp_path: Path) -> None:
    trained = trained_run(tmp_path / "run", qwen3_folder(tmp_path / "base"))
    same = run.check(read_config(None, (), trained), inline=True)
    assert run.check_resume(same, trained).path == trained
    other = run.check(read_config(None, ["rollout.history=template"], trained), inline=True)
    message = r"started with rollout\.history=as_sampled, got template\. Leave it out, or start a new run"
    with pytest.raises(ConfigError, match=message):
        run.check_resume(other, trained)


def test_unknown_history_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"history must be 'template' or 'as_sampled', got 'sampled'"):
        override(RunConfig(), ["rollout.history=sampled"])


def test_template_that_cannot_keep_its_history_is_refused_before_the_start(tmp_path: Path) -> None:
    policy = qwen3_folder(tmp_path / "base")
    reversed_ = QWEN3_OFF.replace("else message.content", "else message.content | reverse")
    (policy / "chat_template.jinja").write_text(reversed_)
    config = override(RunConfig(), [*TINY, f"policy={policy}"])
    with pytest.raises(ConfigError, match=r"policy: .*transforms messages.*rollout\.history=template"):
        run.check(config, inline=True)
    run.check(override(config, ["rollout.history=template"]), inline=True)


def test_folder_of_cases_notices_another_history() -> None:
    plain = dialogue_settings("m", RunConfig())
    kept = dialogue_settings("m", override(RunConfig(), ["rollout.history=as_sampled"]))
    assert "history" not in plain
    assert kept == {**plain, "history": "as_sampled"}


@pytest.mark.slow
def test_training_saves_the_template_that_keeps_its_history(tmp_path: Path) -> None:
    policy = qwen3_folder(tmp_path / "base")
    config = override(RunConfig(out=tmp_path / "run"), [*TINY, f"policy={policy}"])
    summary = run.run_training(run.check(config, inline=True))
    saved = ChatTemplate.from_folder(summary.policy)
    assert (saved.history, saved.prompt(MESSAGES)) == (
        "as_sampled",
        ChatTemplate.from_folder(policy, history="as_sampled").prompt(MESSAGES),
    )
