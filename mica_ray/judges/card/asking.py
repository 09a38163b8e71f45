"""Ask a judge every question of a card, a few at a time; each answer is recorded when it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mica_ray.chat.ledger import Ledger, MeteredChat, Price, Tally
from mica_ray.dialogue.judger import Judge, Judger
from mica_ray.judges.card.log import Judged
from mica_ray.judges.card.presentations import Presentation, reworder
from mica_ray.judges.card.wording import RewordedChat
from mica_ray.seeding import derive_seed
from mica_ray.types import Judgement

ROUNDS = 2
"""Times that a question is asked whose call fails: an endpoint that was busy answers the second time."""
_ROLE = "judge"


@dataclass(frozen=True, slots=True)
class Failure:
    """A question whose calls all failed; it has no answer and no line in the log."""

    asked: Presentation
    error: str


async def ask_all(
    judge: Judge,
    questions: Sequence[Presentation],
    *,
    record: Callable[[Judged], None],
    seed: int,
    price: Price | None = None,
    concurrency: int = 4,
) -> tuple[Failure, ...]:
    """Ask all questions, and those whose call failed once more at the end.

    Args:
        judge: a `Judger`, or any object with `score()`, which gets no other wording.
        questions: the questions without an answer.
        record: receives every answer, valid or not.
        seed: seed of the judge's sampling; every question has its own.
        price: price of the judge's tokens; None for 0.
        concurrency: maximum number of questions in flight.

    Returns:
        The questions that still have no answer.
    """
    open_questions, failures = list(questions), list[Failure]()
    for _ in range(ROUNDS):
        failures = await _ask_once(
            judge, open_questions, record=record, seed=seed, price=price or Price(), concurrency=concurrency
        )
        open_questions = [failure.asked for failure in failures]
        if not failures or len(failures) == len(questions):
            break  # Nothing is left, or nobody answers.
    return tuple(failures)


async def _ask_once(
    judge: Judge,
    questions: Sequence[Presentation],
    *,
    record: Callable[[Judged], None],
    seed: int,
    price: Price,
    concurrency: int,
) -> list[Failure]:
    slots, failures = asyncio.Semaphore(concurrency), list[Failure]()

    async def ask(asked: Presentation) -> None:
        async with slots:
            judgement, cost = await _judge_one(judge, asked, seed, price)
        if judgement.status.failure_kind == "infrastructure":
            failures.append(Failure(asked, judgement.error or str(judgement.status)))
        else:
            record(Judged.of(asked, judgement, cost))

    async with asyncio.TaskGroup() as tasks:
        for asked in questions:
            tasks.create_task(ask(asked))
    return failures


async def _judge_one(
    judge: Judge, asked: Presentation, seed: int, price: Price
) -> tuple[Judgement, Tally | None]:
    """Return the judgement and its cost; None for a judge that is not a chat model."""
    ledger = Ledger()
    if isinstance(judge, Judger):
        reword, order = reworder(asked.condition)
        model = RewordedChat(MeteredChat(judge.model, ledger, _ROLE, price), reword, order)
        judge = replace(judge, model=model)
    judgement = await judge.score(
        asked.scenario, asked.dialogue, state=asked.state, seed=derive_seed(seed, "card", *asked.key)
    )
    return judgement, ledger.totals().get(_ROLE)
