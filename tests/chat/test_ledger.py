"""Every call is counted once, for its role, phase and dialogue, whether or not it succeeds."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from mica_ray.chat.ledger import (
    POLICY,
    Budget,
    DialogueKey,
    Ledger,
    MeteredChat,
    Price,
    Tally,
    dialogue_costs,
    total,
)
from mica_ray.chat.model import ChatError, ChatReply
from mica_ray.types import Message, Sampling
from tests.dialogue.tiny_domain import Forever, QueuedChat

MESSAGES: list[Message] = [{"role": "user", "content": "Hello?"}]
REPLY = ChatReply("hi", "m", prompt_tokens=1000, completion_tokens=100, attempts=3)
PRICE = Price(prompt=2.0, completion=10.0)


def untimed(tally: Tally) -> tuple[float, ...]:
    counts = (tally.calls, tally.failed_calls, tally.retries, tally.prompt_tokens, tally.completion_tokens)
    return (*counts, tally.usd)


async def test_answer_is_counted_with_tokens_retries_and_price() -> None:
    ledger = Ledger()
    chat = MeteredChat(QueuedChat(REPLY), ledger, "judge", PRICE)
    assert await chat.chat(MESSAGES, Sampling()) == REPLY
    # 1000 x 2 / 1e6 + 100 x 10 / 1e6
    assert untimed(ledger.totals()["judge"]) == (1, 0, 2, 1000, 100, 0.003)


async def test_failed_call_is_counted_with_what_it_is_known_to_have_cost() -> None:
    ledger = Ledger()
    error = ChatError("cut off", kind="content", endpoint="m", prompt_tokens=500, completion_tokens=100)
    with pytest.raises(ChatError):
        await MeteredChat(QueuedChat(error), ledger, "judge", PRICE).chat(MESSAGES, Sampling())
    assert untimed(ledger.totals()["judge"]) == (1, 1, 0, 500, 100, 0.002)


async def test_call_that_is_given_up_is_a_failed_call() -> None:
    ledger = Ledger()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await MeteredChat(QueuedChat(Forever()), ledger, "judge", PRICE).chat(MESSAGES, Sampling())
    assert untimed(ledger.totals()["judge"]) == (1, 1, 0, 0, 0, 0.0)
    assert ledger.totals()["judge"].seconds >= 0.04


async def test_dialogues_side_by_side_get_their_own_lines(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "costs.jsonl")
    ledger.phase = "train"
    judge = MeteredChat(QueuedChat(REPLY), ledger, "judge", PRICE)
    actor = MeteredChat(QueuedChat(REPLY), ledger, "actor", Price())

    async def play(sample: int) -> None:
        key = DialogueKey(step=4, scenario="s", sample=sample)
        with dialogue_costs(key):
            for _ in range(sample + 1):
                await asyncio.gather(judge.chat(MESSAGES, Sampling()), actor.chat(MESSAGES, Sampling()))
        ledger.close(key)

    await asyncio.gather(*(play(sample) for sample in range(3)))
    rows = [json.loads(line) for line in (tmp_path / "costs.jsonl").read_text().splitlines()]
    assert sorted((row["phase"], row["step"], row["scenario"], row["sample"]) for row in rows) == [
        ("train", 4, "s", sample) for sample in range(3)
    ]
    for row in rows:
        assert {role: tally["calls"] for role, tally in row["roles"].items()} == {
            "judge": row["sample"] + 1,
            "actor": row["sample"] + 1,
        }


async def test_resumed_ledger_goes_on_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "costs.jsonl"
    for phase in ("evaluate_before", "train"):
        ledger = Ledger(path)
        ledger.phase = phase
        with dialogue_costs(DialogueKey(0, "s", 0)):
            ledger.add("judge", Tally(calls=2, usd=0.5))
        ledger.close(DialogueKey(0, "s", 0))
    again = Ledger(path)
    assert again.totals() == ledger.totals() == {"judge": Tally(calls=4, usd=1.0)}
    assert again.totals(["train"]) == {"judge": Tally(calls=2, usd=0.5)}


def test_budget_says_what_is_used_up_and_how_to_go_on() -> None:
    spent = {"judge": Tally(calls=3, usd=2.0), "actor": Tally(calls=4, usd=1.0), POLICY: Tally(calls=100)}
    assert total(spent).usd == 3.0
    assert Budget().excess(spent) is None
    assert Budget(usd=3.5, calls=8).excess(spent) is None
    assert (
        Budget(usd=3.0).excess(spent) == "The budget of 3 USD is spent (3.00). Raise budget.usd and --resume."
    )
    # The policy's replies come from engines of the run and are no calls.
    assert (
        Budget(calls=7).excess(spent)
        == "The budget of 7 calls is spent (7). Raise budget.calls and --resume."
    )
    with pytest.raises(ValueError, match="usd must be > 0, got 0"):
        Budget(usd=0.0)


def test_line_that_a_crash_cut_off_is_dropped_and_the_file_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "costs.jsonl"
    key = DialogueKey(0, "s", 0)
    for usd in (1.0, 2.0):
        ledger = Ledger(path)
        with dialogue_costs(key):
            ledger.add("judge", Tally(calls=1, usd=usd))
        ledger.close(key)
        path.write_bytes(path.read_bytes() + b'{"phase": "tr')
    assert Ledger(path).totals()["judge"] == Tally(calls=2, usd=3.0)
