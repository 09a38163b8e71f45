"""Every call is counted once, for its role, phase and dialogue, whether or not it succeeds."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
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
from tests.dialogue.tiny_domain import Asked, Forever, QueuedChat

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


NUMBERS = Tally(
    calls=1, failed_calls=2, retries=3, prompt_tokens=4, completion_tokens=5, seconds=6.0, usd=7.0
)


def test_tallies_add_up_field_by_field() -> None:
    twice = NUMBERS + NUMBERS
    assert asdict(twice) == {name: 2 * number for name, number in asdict(NUMBERS).items()}
    assert twice - NUMBERS == NUMBERS
    nothing = NUMBERS - NUMBERS
    assert nothing == Tally()
    assert total({}) == Tally()
    assert total({"judge": NUMBERS, "actor": twice}) == NUMBERS + twice


def test_prices_are_per_million_tokens_of_each_kind() -> None:
    assert Price(prompt=2.0).of(500_000, 7) == 1.0
    assert Price(completion=4.0).of(7, 250_000) == 1.0
    assert Price().of(10**9, 10**9) == 0.0


def test_call_outside_a_dialogue_counts_in_the_totals_only(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "costs.jsonl")
    key, other = DialogueKey(0, "s", 0), DialogueKey(0, "s", 1)
    ledger.add("judge", Tally(calls=1))
    with dialogue_costs(key):
        ledger.add("judge", Tally(calls=2))
        with dialogue_costs(other):
            ledger.add("judge", Tally(calls=4))
        ledger.add("actor", Tally(calls=8))
        ledger.add("judge", Tally(calls=16))
    ledger.add("judge", Tally(calls=32))
    ledger.close(key)
    ledger.close(key)  # the second time there is nothing left
    rows = [json.loads(line) for line in (tmp_path / "costs.jsonl").read_text().splitlines()]
    assert [{role: tally["calls"] for role, tally in row["roles"].items()} for row in rows] == [
        {"judge": 18, "actor": 8},
        {},
    ]
    assert {key: rows[0][key] for key in ("phase", "step", "scenario", "sample")} == {
        "phase": "", "step": 0, "scenario": "s", "sample": 0,
    }  # fmt: skip
    assert rows[0]["roles"]["judge"] == asdict(Tally(calls=18))
    assert {role: tally.calls for role, tally in ledger.totals().items()} == {"judge": 55, "actor": 8}


def test_totals_are_kept_by_phase() -> None:
    ledger = Ledger()
    for phase, calls in (("evaluate_before", 1), ("train", 2), ("train", 4), ("evaluate_after", 8)):
        ledger.phase = phase
        ledger.add("judge", Tally(calls=calls))
    ledger.close(DialogueKey(0, "s", 0))  # without a file nothing is written
    assert ledger.phases == ("evaluate_before", "train", "evaluate_after")
    assert ledger.totals(["train"]) == {"judge": Tally(calls=6)}
    assert ledger.totals(["evaluate_before", "evaluate_after"]) == {"judge": Tally(calls=9)}
    assert ledger.totals([]) == {}


async def test_meter_forwards_what_was_asked_and_times_the_call() -> None:
    ledger, inner = Ledger(), QueuedChat(REPLY)
    schema = {"type": "object"}
    await MeteredChat(inner, ledger, "actor", PRICE).chat(MESSAGES, Sampling(seed=5), schema)
    assert inner.asked == [Asked(MESSAGES, Sampling(seed=5), schema)]
    assert 0 <= ledger.totals()["actor"].seconds < 5


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
    # A limit that is reached is exceeded; one just above is not.
    assert Budget(usd=2.999, calls=8).excess(spent) is not None
    assert Budget(usd=3.001, calls=8).excess(spent) is None
    assert Budget(calls=6).excess(spent) is not None
    assert Budget(usd=3.0, calls=7).excess(spent) == Budget(usd=3.0).excess(spent)


@pytest.mark.parametrize("field", ["usd", "calls"])
def test_budget_is_positive(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be > 0, got 0"):
        Budget(**{field: 0})
    assert getattr(Budget(**{field: 1}), field) == 1
    assert Budget(usd=0.001).usd == 0.001


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
