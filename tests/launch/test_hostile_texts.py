"""Hostile texts of scenarios and roles go through training, resume, reports, credit and MLflow."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from mica_ray.chat.model import ChatReply, JsonSchema
from mica_ray.cli import main
from mica_ray.config import RunConfig
from mica_ray.config.overrides import override
from mica_ray.dialogue.judger import judgement_schema
from mica_ray.launch import run
from mica_ray.runs.folder import RunFolder
from mica_ray.tracking.mlflow_store import connect
from mica_ray.types import Message, Sampling
from mica_ray.valid_text import valid_text
from tests.hostile_texts import ALL_AT_ONCE, HALF, TEXTS
from tests.small_policy import small_folder

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

TINY = (
    "loop.num_steps=1", "loop.checkpoint_every=1", "loop.scenarios_per_step=2", "learner.mini_batches=1",
    "loop.track_policy=false", "retellings=0", "rollout.group_size=2", "rollout.sampling.max_tokens=8",
    "rollout.context_length=512", "evaluation.max_scenarios=1", "evaluation.samples=1",
)  # fmt: skip


SHORT = "\ud83d \x00 \u2028 \x85 [/b] $x$ </script>"
"""Short enough for the context of the small policy."""


@dataclass(frozen=True)
class HostileUser:
    """An Actor whose messages contain every hostile text."""

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        # The template of the policy and JSON of the case file must both survive it.
        json.dumps([message["content"] for message in messages], ensure_ascii=False).encode()
        drawn = random.Random(sampling.seed)
        # Other words in every message: a user who repeats themselves is rejected.
        words = " ".join("".join(drawn.choices("aeioubdklmnrst", k=6)) for _ in range(8))
        return ChatReply(f"{words} {drawn.choice(TEXTS)} {HALF}", f"user{HALF}")


@dataclass(frozen=True)
class HostileJudge:
    """A judge whose evidence spells every hostile text as JSON escapes."""

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        json.dumps([message["content"] for message in messages], ensure_ascii=False).encode()
        answer = {
            name: 0 if kind["type"] == "integer" else ALL_AT_ONCE
            for name, kind in judgement_schema()["properties"].items()  # type: ignore[attr-defined]
        }
        answer["A_progress_level"] = (sampling.seed or 0) % 3
        return ChatReply(json.dumps(answer), "judge")


def hostile_scenarios(path: Path) -> None:
    """Write four scenarios, three for training, whose every text is hostile."""
    lines = [
        {
            "id": f"{number} {ALL_AT_ONCE}", "category": ALL_AT_ONCE, "dominant_axis": "A",
            "persona": ALL_AT_ONCE, "opening": f"I am tired. {SHORT}", "initial_state": [-4, -7.5, -2],
            "stages": [ALL_AT_ONCE, "b"], "split": "train" if number else "test",
            "topic": ALL_AT_ONCE, "difficulty": ALL_AT_ONCE,
        }
        for number in range(4)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def mica(*arguments: str | Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == 0


def test_hostile_texts_survive_a_run_its_resume_and_every_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenarios, folder = tmp_path / "own.jsonl", RunFolder(tmp_path / "run [b] $x$")
    hostile_scenarios(scenarios)
    policy = small_folder(tmp_path / "policy", tied=True)
    settings = (*TINY, f"policy={policy}", f"out={folder.path}", f"scenarios_file={scenarios}")
    config = override(RunConfig(), settings)
    roles = config.roles.model_copy(update={"actor": HostileUser(), "judge": HostileJudge()})
    config = config.model_copy(update={"roles": roles})
    run.run_training(run.check(config, inline=True))
    longer = override(config, ["loop.num_steps=2"])
    summary = run.run_training(run.check(longer, inline=True), resume=folder.path)

    rows = [json.loads(line) for line in folder.dialogues.read_bytes().split(b"\n") if line]
    assert len(rows) == 8 and len(folder.dialogues.read_text().splitlines()) == 8
    assert [row["error"] for row in rows] == [None] * 8
    assert {valid_text(ALL_AT_ONCE)} == {row["category"] for row in rows}
    assert all(
        turn["evidence"]["A_progress_evidence"] == valid_text(ALL_AT_ONCE)
        for row in rows
        for turn in row["turns"]
    )
    client = connect(summary.tracking_uri)
    stored = client.get_run(folder.read_tracking_run() or "")
    assert (stored.info.status, "loss" in stored.data.metrics) == ("FINISHED", True)
    assert client.list_artifacts(stored.info.run_id)

    page = tmp_path / "page.html"
    mica("report", folder.path, "--out", page)
    mica("report", "turns", folder.path, "--out", page)
    mica("report", "figures", folder.dialogues, "--out", tmp_path / "figures")
    mica("credit", folder.path, "--out", page)
    mica("evaluate", "rescore", folder.evaluation_dialogues("after"))
    mica("compare", folder.path, "--trust", "--latex", tmp_path / "table.tex")
    capsys.readouterr().out.encode()
