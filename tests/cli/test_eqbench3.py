"""`mica evaluate eqbench3` against a real server that plays policy and judge."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from mica_ray.benchmarks.eqbench3.items import SCORED, EqBench3
from tests.benchmarks.eqbench3.small_benchmark import FORMED, STYLE, judgement, write_benchmark
from tests.chat.local_endpoint import Answer, LocalEndpoint, Request, refusal
from tests.cli.test_commands import refuse, run


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the key that every endpoint needs; the server accepts any."""
    monkeypatch.setenv("OPENAI_API_KEY", "any")


class Player:
    """Answers as policy or judge, by the name of the requested model."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        """Model and last message of each request."""
        self.is_judge_down = False

    async def respond(self, request: Request) -> Answer:
        model, message = request["model"], request["messages"][-1]["content"]
        self.asked.append((model, message))
        if model.startswith("judge"):
            message = request["messages"][0]["content"]  # The last one may complain about an answer.
        else:
            return Answer(f"{FORMED} From {model}." if message.startswith("A parcel") else f"From {model}.")
        if self.is_judge_down:
            return refusal(400, "no such model")
        if "overall_eq" in message:
            return Answer(compared(message))
        if message.startswith("Score the analysis."):
            return Answer(judgement(SCORED["analysis"], 15))
        if "Plain talk" in message or "about {debrief} parcels" in message:
            return Answer("I like it.")
        return Answer(judgement((*SCORED["role-play"], *STYLE), 12))

    def count(self, model: str) -> int:
        return sum(name == model for name, _ in self.asked)


def compared(message: str) -> str:
    """Return a comparison that prefers the policy "large", wherever it is shown."""
    code = "A0493" if message.index("From large") < message.index("From small") else "A0488"
    ratings = {name: f"{code}+++" for name in ("warmth", "overall_eq") if f'"{name}"' in message}
    return json.dumps({"chain_of_thought_reasoning": "so", **ratings})


def endpoint(url: str, model: str) -> str:
    return json.dumps({"model": model, "base_url": url})


def score_arguments(tmp_path: Path, url: str, *, judge: str = "judge") -> tuple[str, ...]:
    data = write_benchmark(tmp_path / "data")
    return (
        *("evaluate", "eqbench3", "--policy", endpoint(url, "small"), "--judge", endpoint(url, judge)),
        *("--data", str(data), "--out", str(tmp_path / "out"), "--inline"),
    )


def read(path: Path) -> Any:
    return json.loads(path.read_text())


async def test_policy_is_played_judged_and_continued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    player = Player()
    async with LocalEndpoint(respond=player.respond) as server:
        command = score_arguments(tmp_path, server.url)
        await asyncio.to_thread(run, *command, "--json", str(tmp_path / "score.json"))
        # Turns: role-play 2 + 1, direct 1 + 1, drafting 1 + 1, analysis 1. One judgement is asked for twice.
        assert (player.count("small"), player.count("judge")) == (8, 5)
        temperatures = {request["model"]: request["temperature"] for request in server.requests}
        assert temperatures == {"small": 0.7, "judge": 0.0}
        await asyncio.to_thread(run, *command)
        assert (player.count("small"), player.count("judge")) == (8, 5)
        await asyncio.to_thread(run, *command, "--samples", "2")
        assert (player.count("small"), player.count("judge")) == (16, 10)
        other = score_arguments(tmp_path, server.url, judge="judge-2")
        await asyncio.to_thread(run, *other)
        assert (player.count("small"), player.count("judge-2")) == (16, 5)
    record = read(tmp_path / "score.json")
    # Role-play and drafting 5 x 12 = 60, analysis 5 x 15 = 75; the direct talk has no readable judgement.
    assert record["all"]["score"]["estimate"] == pytest.approx(65.0)
    assert record["part"]["analysis"]["score"]["estimate"] == pytest.approx(75.0)
    assert (record["invalid_judgements"], record["missing"], record["all"]["num_questions"]) == (1, 0, 3)
    assert (record["model"], record["judge"]) == ("small", "judge")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "answers.jsonl", "settings.json", "judge-judge", "judge-judge-2",
    }  # fmt: skip
    assert read(tmp_path / "out" / "judge-judge-2" / "score.json")["judge"] == "judge-2"
    printed = capsys.readouterr().out
    assert "409" in printed and "65.0" in printed and "1 judgements that cannot be read" in printed


async def test_judge_that_is_down_keeps_the_conversations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    player = Player()
    player.is_judge_down = True
    async with LocalEndpoint(respond=player.respond) as server:
        command = score_arguments(tmp_path, server.url)
        with pytest.raises(SystemExit) as caught:
            await asyncio.to_thread(run_to_end, *command, "--limit", "1")
        assert caught.value.code == 1
        assert "Every call failed" in capsys.readouterr().err
        player.is_judge_down = False
        await asyncio.to_thread(run, *command, "--limit", "1")
        assert player.count("small") == 8
    assert read(tmp_path / "out" / "judge-judge" / "score.json")["missing"] == 0


def run_to_end(*arguments: str) -> None:
    from mica_ray.cli import main

    main(arguments)


def elo_arguments(tmp_path: Path, url: str, *runs: str) -> tuple[str, ...]:
    return (
        *("evaluate", "eqbench3", "elo", *(str(tmp_path / run) for run in runs)),
        *("--judge", endpoint(url, "judge"), "--data", str(tmp_path / "data")),
        *("--out", str(tmp_path / "elo"), "--inline"),
    )


async def test_policies_are_ranked_by_comparisons_in_both_orders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    player = Player()
    async with LocalEndpoint(respond=player.respond) as server:
        for model in ("small", "large"):
            command = score_arguments(tmp_path, server.url)
            await asyncio.to_thread(
                run, *command, "--policy", endpoint(server.url, model), "--out", str(tmp_path / model)
            )
        judged = player.count("judge")
        command = elo_arguments(tmp_path, server.url, "small", "large")
        await asyncio.to_thread(run, *command, "--json", str(tmp_path / "elo.json"))
        # Four items in two orders.
        assert player.count("judge") == judged + 8
        await asyncio.to_thread(run, *command)
        assert player.count("judge") == judged + 8
    record = read(tmp_path / "elo.json")
    # The judge of the test prefers "large" by 6 of 30 on two criteria, by 3 where there is one.
    assert record["elo"]["large"]["estimate"] > 1200 > record["elo"]["small"]["estimate"]
    assert record["win_fraction"]["large"]["estimate"] == 1.0
    assert (record["compared_pairs"], record["items"], record["invalid_comparisons"]) == (4, 4, 0)
    assert record["first_wins_fraction"]["estimate"] == 0.5
    assert record["order_flips_fraction"]["estimate"] == 0.0
    assert read(tmp_path / "elo" / "elo.json") == record
    printed = capsys.readouterr().out
    assert "pairs won" in printed and "the policy shown first won 50%" in printed


def test_problems_of_a_ranking_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = "http://127.0.0.1:9/v1"
    write_benchmark(tmp_path / "data")
    assert "Name at least two runs" in refuse(capsys, *elo_arguments(tmp_path, url, "a"))
    assert "Name at least two runs" in refuse(capsys, *elo_arguments(tmp_path, url, "a", "a"))
    assert "not a run of EQ-Bench 3" in refuse(capsys, *elo_arguments(tmp_path, url, "a", "b"))
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings.json").write_text(json.dumps({"model": name, "data": "0"}))
    assert "played with other prompts" in refuse(capsys, *elo_arguments(tmp_path, url, "a", "b"))
    digest = EqBench3(tmp_path / "data").played_digest
    for name in "ab":
        (tmp_path / name / "settings.json").write_text(json.dumps({"model": name, "data": digest}))
    assert "No readable comparisons" in refuse(capsys, *elo_arguments(tmp_path, url, "a", "b"))


def test_problems_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = "http://127.0.0.1:9/v1"
    command = score_arguments(tmp_path, url)
    (tmp_path / "data" / "debrief_prompt.txt").unlink()
    assert "debrief_prompt.txt cannot be read" in refuse(capsys, *command)
    assert "a role must be" in refuse(capsys, *score_arguments(tmp_path, url), "--judge", "nobody")
    out = tmp_path / "out"
    out.mkdir()
    (out / "settings.json").write_text('{"model": "other"}')
    assert "Use another folder: --out DIR" in refuse(capsys, *score_arguments(tmp_path, url))
