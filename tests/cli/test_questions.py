"""`mica evaluate emobench` and `eqbench2` with a policy that is a class, and one that is a small model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from mica_ray.benchmarks.question import Question
from mica_ray.chat.model import ChatError, ChatReply, JsonSchema
from mica_ray.cli.empa import CONTEXT, read_policy
from mica_ray.cli.questions import spread
from mica_ray.types import Message, Sampling
from tests.benchmarks.test_emobench import EA, EU, written
from tests.benchmarks.test_eqbench2 import ENTRY, listed
from tests.cli.test_commands import refuse, run
from tests.small_policy import small_folder


@dataclass(frozen=True)
class Fixed:
    """Answers every question with A, and numbers where numbers are asked for."""

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        asked = messages[-1]["content"]
        text = listed(0, 6, 0, 7) if "Rate them" in asked else '{"answer": "A", "emotion": "A", "cause": "A"}'
        return ChatReply(text, model="fixed")


def test_limited_questions_are_spread_over_the_categories() -> None:
    questions = [
        Question(f"{part}-{number}", part, "en", f"category {number // 4}", 0.25)
        for part in ("EA", "EU")
        for number in range(12)
    ]
    found = [question.id for question in spread(questions, 3)]
    assert found == ["EA-0", "EA-4", "EA-8", "EU-0", "EU-4", "EU-8"]
    assert spread(questions, None) == spread(questions, 12) == spread(questions, 99) == questions


@dataclass(frozen=True)
class Down:
    """Never answers."""

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        raise ChatError("down", kind="infrastructure", endpoint="down")


def test_emobench_is_answered_scored_and_continued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path, [EA, EA | {"qid": "2"}], [EU])
    command = ("evaluate", "emobench", "--policy", "tests.cli.test_questions:Fixed", "--data", str(data))
    run(*command, "--out", str(tmp_path / "out"), "--limit", "1", "--inline")
    assert len((tmp_path / "out" / "answers.jsonl").read_text().splitlines()) == 2
    run(*command, "--out", str(tmp_path / "out"), "--json", str(tmp_path / "score.json"), "--inline")
    record = json.loads((tmp_path / "score.json").read_text())
    assert record["all"]["num_answers"] == 3 and record["all"]["num_unscored"] == 0
    assert set(record["part"]) == {"EA", "EU"} and set(record["scores"]) == {
        "score",
        "answer",
        "emotion",
        "cause",
    }
    printed = capsys.readouterr().out
    assert "chance" in printed and "Personal-Self" in printed


def test_eqbench2_prints_both_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "questions.json").write_text(json.dumps({"1": ENTRY}))
    run(
        *("evaluate", "eqbench2", "--policy", "tests.cli.test_questions:Fixed", "--inline"),
        *("--data", str(tmp_path / "questions.json"), "--out", str(tmp_path / "out")),
    )
    assert "100.000" in capsys.readouterr().out


def test_small_model_answers_without_a_score(tmp_path: Path) -> None:
    # A random model writes no choice: the answers are counted, and no score is invented.
    policy = small_folder(tmp_path / "small", tied=True)
    data = written(tmp_path, [EA], [EU])
    run(
        *("evaluate", "emobench", "--policy", str(policy), "--data", str(data), "--inline"),
        *("--out", str(tmp_path / "out"), "--set", "rollout.context_length=512"),
    )
    record = json.loads((tmp_path / "out" / "score.json").read_text())
    assert record["all"]["num_answers"] == record["all"]["num_unscored"] == 2
    assert record["all"]["score"]["estimate"] is None and record["all"]["strict"] == 0


def test_problems_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("evaluate", "emobench", "--inline", "--out", str(tmp_path / "out"))
    fixed = ("--policy", "tests.cli.test_questions:Fixed")
    assert "folder of EmoBench" in refuse(capsys, *command, *fixed, "--data", str(tmp_path))
    data = written(tmp_path, [EA], [EU])
    run(*command, *fixed, "--data", str(data))
    capsys.readouterr()
    other = ("--policy", "tests.cli.test_questions:Down")
    assert "another folder" in refuse(capsys, *command, *other, "--data", str(data))


def test_the_engine_of_a_model_folder_has_room_for_its_whole_context(tmp_path: Path) -> None:
    folder = small_folder(tmp_path / "small", tied=True)
    config = json.loads((folder / "config.json").read_text())
    for model, expected in ((3000, 3000), (60_000, CONTEXT)):
        (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": model}))
        tested = read_policy(str(folder), {}, ())
        assert tested.config.rollout.context_length == tested.config.engine.max_model_len == expected
    chosen = read_policy(str(folder), {}, ("engine.max_model_len=30000", "engine.kv_cache_gib=9"))
    assert (chosen.config.engine.max_model_len, chosen.config.engine.kv_cache_gib) == (30_000, 9.0)
