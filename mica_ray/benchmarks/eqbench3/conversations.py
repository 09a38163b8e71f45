"""Play the items with a policy. Every reply is kept when it arrives, so that later calls continue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mica_ray.benchmarks.answers import Answer
from mica_ray.benchmarks.eqbench3.items import DEBRIEF, EqBench3, Item
from mica_ray.chat.model import ChatError, ChatModel
from mica_ray.seeding import derive_seed
from mica_ray.types import Message, Sampling

SAMPLING = Sampling(temperature=0.7, max_tokens=12_000)
"""Of every reply. EQ-Bench's own program also sets min_p to 0.1, and samples debriefs at 0.5."""

FindAnswer = Callable[[str, int], Answer | None]
"""Returns a stored answer by question and sample."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A finished conversation about one item."""

    item: Item
    sample: int
    replies: tuple[str, ...]
    """One for each prompt; fewer if one is unusable."""
    debrief: str | None
    """None for an analysis, or if a reply before it is unusable."""
    problem: str | None = None
    """Why the conversation cannot be judged: an empty reply, or one that ends within its thoughts."""


def reply_key(item: Item, turn: str) -> str:
    """Return the name of a reply in the file of answers."""
    return f"{item.id}/{turn}"


def find_conversation(data: EqBench3, item: Item, sample: int, find: FindAnswer) -> Conversation | None:
    """Return a conversation from its stored replies; None if it is not finished."""
    replies: dict[str, str] = {}
    problem = None
    for turn, _ in data.turns(item):
        answer = find(reply_key(item, turn), sample)
        if answer is None:
            return None
        if answer.problem is not None:
            problem = f"turn {turn}: {answer.problem}"
            break
        replies[turn] = answer.text
    debrief = replies.pop(DEBRIEF, None)
    return Conversation(item, sample, tuple(replies.values()), debrief, problem)


def num_replies_done(data: EqBench3, item: Item, sample: int, find: FindAnswer) -> int:
    """Count the turns that need no further call; those after an unusable reply need none either."""
    turns = [turn for turn, _ in data.turns(item)]
    for place, turn in enumerate(turns):
        answer = find(reply_key(item, turn), sample)
        if answer is None:
            return place
        if answer.problem is not None:
            break
    return len(turns)


async def play_items(
    data: EqBench3,
    wanted: Sequence[tuple[Item, int]],
    model: ChatModel,
    sampling: Sampling,
    *,
    find: FindAnswer,
    record: Callable[[Answer], None],
    advance: Callable[[int], None],
    seed: int = 0,
    concurrency: int = 8,
) -> tuple[ChatError, ...]:
    """Play what is missing of each conversation, and record each reply when it arrives.

    A failed call is not recorded: the next call of the command continues there. An unusable reply is
    recorded; it ends its conversation, which then has no score.

    Args:
        data: the benchmark.
        wanted: items and sample numbers.
        model: the policy, with deadlines of its own.
        sampling: parameters of every reply; the seed is replaced.
        find: returns stored replies.
        record: receives every new reply.
        advance: receives how many more turns need no further call.
        seed: seed of the sampling.
        concurrency: maximum number of conversations at the same time.

    Returns:
        The failures of the policy.
    """
    slots, failures = asyncio.Semaphore(concurrency), list[ChatError]()

    async def play(item: Item, sample: int) -> None:
        messages: list[Message] = []
        turns = data.turns(item)
        for place, (turn, said) in enumerate(turns):
            messages.append({"role": "user", "content": said})
            key = reply_key(item, turn)
            answer = find(key, sample)
            if answer is None:
                of_reply = replace(sampling, seed=derive_seed(seed, key, sample))
                answer = await _reply(model, messages, of_reply, key, sample)
                if isinstance(answer, ChatError):
                    failures.append(answer)
                    return
                record(answer)
                advance(1 if answer.problem is None else len(turns) - place)
            if answer.problem is not None:
                return
            messages.append({"role": "assistant", "content": answer.text})

    async def play_in_slot(item: Item, sample: int) -> None:
        async with slots:
            await play(item, sample)

    async with asyncio.TaskGroup() as tasks:
        for item, sample in wanted:
            tasks.create_task(play_in_slot(item, sample))
    return tuple(failures)


async def _reply(
    model: ChatModel, messages: Sequence[Message], sampling: Sampling, key: str, sample: int
) -> Answer | ChatError:
    try:
        reply = await model.chat(messages, sampling)
    except ChatError as error:
        return Answer(key, sample, problem=str(error)) if error.kind == "content" else error
    if not reply.text.strip():
        return Answer(key, sample, reply.text, problem="the reply is empty")
    return Answer(key, sample, reply.text)
