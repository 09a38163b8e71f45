"""Can small real models play all four roles, and what happens to every one of their answers?

Command:   cluster/with-env python experiments/empa_small_models.py --model FOLDER --out DIR [--judge FOLDER]
               [--cards FOLDER] [--transport engine|http|both]
Time:      about 40 minutes per transport on two cores; --deadline bounds every answer
Expected:  every judgement is valid or a counted failure, and nothing hangs; dialogues not worth reading

Actor, policy and Director are --model, the Judger is --judge (default: the same); 8 cards x 6 turns.
`engine`: vLLM engines in Ray actors, answers held to a JSON schema. `http`: AsyncOpenAI against vLLM servers
of the same folders, which are started here on free ports and stopped at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mica_ray.chat.model import ChatModel
from mica_ray.chat.openai_api import Endpoint, OpenAIChat
from mica_ray.dialogue.actor import Actor
from mica_ray.dialogue.director import Director
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.environment import DialogueEnvironment
from mica_ray.dialogue.judger import Judger
from mica_ray.dialogue.play import DialogueStart, TextPolicy, play_dialogue
from mica_ray.domains.empa import EMPA
from mica_ray.domains.empa.cards import read_cards
from mica_ray.domains.loader import load_domain
from mica_ray.evaluation.role_counts import CountedChat, RoleCount, with_failures
from mica_ray.files import write_json, write_whole
from mica_ray.ports import free_port
from mica_ray.recordings.transcript import transcript
from mica_ray.serving.local_server import running_server, server_command
from mica_ray.types import Sampling, Scenario, Trajectory

ROLES = ("actor", "policy", "judge", "director")
SAMPLING = {
    "actor": Sampling(temperature=0.9, top_p=0.95, max_tokens=160),
    "policy": Sampling(temperature=0.9, top_p=0.95, max_tokens=160, seed=0),
    "judge": Sampling(temperature=0.0, max_tokens=1536),
    "director": Sampling(temperature=0.7, top_p=0.95, max_tokens=256),
}
"""Sampling by role. The judge's limit leaves room for 18 fields in Chinese; longer answers are invalid."""
CONTEXT = 8192
SERVER_START_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Played:
    """The dialogues of one transport that have ended, and the counts so far."""

    dialogues: tuple[Trajectory, ...]
    counts: Mapping[str, RoleCount]
    seconds: float


async def play(
    models: Mapping[str, ChatModel],
    domain: Domain,
    scenarios: Sequence[Scenario],
    *,
    num_turns: int,
    deadline_seconds: float,
    console: Console,
    keep: Callable[[Played], None] = lambda _: None,
) -> Played:
    """Play one dialogue per scenario at the same time, and count what every role did.

    Args:
        models: by role.
        domain: its prompts and axes are used; dialogues end after `num_turns`.
        scenarios: one dialogue each.
        num_turns: maximum number of turns in a dialogue.
        deadline_seconds: for one answer of a role.
        console: shows how many replies have been asked for.
        keep: receives everything played so far whenever a dialogue ends, so an interrupted run keeps it.
    """
    domain = replace(domain, rules=replace(domain.rules, max_turns=num_turns))
    counts = {role: RoleCount() for role in ROLES}
    chats = {role: CountedChat(models[role], counts[role], is_policy=role == "policy") for role in ROLES}

    started, ended = time.monotonic(), list[Trajectory]()

    def played() -> Played:
        return Played(tuple(ended), with_failures(ended, counts), time.monotonic() - started)

    async def one(number: int, scenario: Scenario) -> None:
        environment = DialogueEnvironment(
            scenario,
            domain,
            actor=Actor(chats["actor"], domain, SAMPLING["actor"], deadline_seconds),
            judge=Judger(chats["judge"], domain, SAMPLING["judge"], deadline_seconds),
            director=Director(chats["director"], domain, SAMPLING["director"], deadline_seconds),
            seed=number,
        )
        dialogue = await play_dialogue(
            DialogueStart(scenario, seed=number, group=number),
            environment,
            TextPolicy(chats["policy"]),
            SAMPLING["policy"],
            policy_prompt=domain.prompts(scenario.language).policy_prompt,
            reply_deadline_seconds=deadline_seconds,
        )
        ended.append(dialogue)
        keep(played())

    # No overall limit: every answer has its deadline, and dialogues already played must not be lost.
    async with shown_turns(console, counts["policy"], len(scenarios) * num_turns):
        await asyncio.gather(*(one(number, item) for number, item in enumerate(scenarios)))
    return played()


@asynccontextmanager
async def shown_turns(console: Console, policy: RoleCount, most_turns: int) -> AsyncIterator[None]:
    """Show a progress bar of the policy's replies until the block ends."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("turns", total=most_turns)

        async def follow() -> None:
            while True:
                progress.update(bar, completed=policy.asked)
                await asyncio.sleep(0.5)

        following = asyncio.create_task(follow())
        try:
            yield
        finally:
            following.cancel()
            progress.update(bar, completed=policy.asked)


def counts_table(name: str, played: Played) -> Table:
    """Return the counts as a table with one row per role."""
    turns = sum(len(dialogue.turns) for dialogue in played.dialogues)
    table = Table(
        title=f"{name}: {len(played.dialogues)} dialogues, {turns} turns, {played.seconds:.0f} s",
        caption="usable: at the first attempt; repaired: at a later one; failed: never",
    )
    numbers = ("asked", "usable", "repaired", "failed", "tokens in", "tokens out", "call seconds")
    for head in ("role", *numbers):
        table.add_column(head, justify="left" if head == "role" else "right")
    for role, count in played.counts.items():
        numbers = (count.asked, count.first, count.repaired, count.failed, count.prompt_tokens)
        row = [*map(str, numbers), str(count.completion_tokens), f"{count.seconds:.0f}"]
        table.add_row(role, *row)
    return table


def played_record(played: Played) -> dict[str, object]:
    """Return counts, ends of dialogues and errors as JSON."""
    return {
        "seconds": played.seconds,
        "dialogues": len(played.dialogues),
        "stops": dict(Counter(str(dialogue.stop) for dialogue in played.dialogues)),
        "turns": sum(len(dialogue.turns) for dialogue in played.dialogues),
        "judgements": dict(
            Counter(str(turn.judgement.status) for dialogue in played.dialogues for turn in dialogue.turns)
        ),
        "roles": {
            role: {
                "asked": count.asked,
                "usable": count.first,
                "repaired": count.repaired,
                "failed": count.failed,
                "prompt_tokens": count.prompt_tokens,
                "completion_tokens": count.completion_tokens,
                "call_seconds": count.seconds,
                "errors": dict(count.errors.most_common(8)),
            }
            for role, count in played.counts.items()
        },
    }


def write_dialogues(path: Path, dialogues: Sequence[Trajectory]) -> None:
    """Write the dialogues in the format that `mica report figures` reads."""
    lines = [json.dumps(transcript(dialogue), ensure_ascii=False) for dialogue in dialogues]
    write_whole(path, "".join(f"{line}\n" for line in lines))


@asynccontextmanager
async def engine_models(
    model: str, judge: str, *, deadline_seconds: float
) -> AsyncIterator[dict[str, ChatModel]]:
    """Serve both folders with vLLM engines in Ray actors; one engine if they are the same."""
    import ray

    from mica_ray.config.role_config import RoleConfig
    from mica_ray.config.run_config import RunConfig
    from mica_ray.launch.start_engines import start_role_model
    from mica_ray.rollout.engine_config import EngineConfig

    cpus = max(1, (os.cpu_count() or 1) // len({model, judge}))
    engine = EngineConfig(
        dtype="bfloat16", max_model_len=CONTEXT, kv_cache_gib=4.0, max_num_seqs=32, cpus_per_engine=cpus
    )
    config = RunConfig(roles=RoleConfig(engine=engine, max_tokens=1536, deadline_seconds=deadline_seconds))
    ray.init(address="local", num_cpus=os.cpu_count() or 1, include_dashboard=False, log_to_driver=False)
    async with AsyncExitStack() as stack:
        stack.callback(ray.shutdown)
        chats: dict[str, ChatModel] = {}
        for folder in dict.fromkeys((model, judge)):
            chats[folder], started = await start_role_model(config, folder, inline=False)
            stack.push_async_callback(started.close)
        yield {role: chats[judge if role == "judge" else model] for role in ROLES}


@asynccontextmanager
async def http_models(
    model: str, judge: str, *, deadline_seconds: float, logs: Path
) -> AsyncIterator[dict[str, ChatModel]]:
    """Serve both folders with vLLM and call them through AsyncOpenAI."""
    async with AsyncExitStack() as stack:
        chats: dict[str, ChatModel] = {}
        for number, folder in enumerate(dict.fromkeys((model, judge))):
            port = free_port()
            command = server_command(folder, port, context=CONTEXT)
            log = logs / f"server-{number}.log"
            await stack.enter_async_context(running_server(command, port, log, SERVER_START_SECONDS))
            endpoint = Endpoint(
                model=folder,
                base_url=f"http://127.0.0.1:{port}/v1",
                timeout_seconds=deadline_seconds,
                deadline_seconds=deadline_seconds,
            )
            chat = OpenAIChat(endpoint, "none-needed")
            stack.push_async_callback(chat.close)
            chats[folder] = chat
        yield {role: chats[judge if role == "judge" else model] for role in ROLES}


def read_world(arguments: argparse.Namespace) -> tuple[Domain, tuple[Scenario, ...]]:
    """Return domain and scenarios: the cards of a folder, or the domain's own.

    Raises:
        CardError: the folder has no playable cards.
    """
    if arguments.cards is None:
        domain = load_domain(arguments.domain)
        return domain, domain.split("train")[: arguments.num_cards]
    domain = replace(EMPA, scenarios=read_cards(arguments.cards).scenarios(EMPA.name))
    # Nothing is learned here, so test cases may be played if a folder has no others.
    return domain, (domain.split("train") or domain.scenarios)[: arguments.num_cards]


async def run(arguments: argparse.Namespace) -> dict[str, object]:
    """Play over every transport; write everything played so far when a dialogue ends."""
    console = Console()
    domain, scenarios = read_world(arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    model, judge = str(arguments.model), str(arguments.judge or arguments.model)
    record: dict[str, object] = {"model": model, "judge": judge, "cards": [item.id for item in scenarios]}
    deadline = arguments.deadline
    for transport in ("engine", "http") if arguments.transport == "both" else (arguments.transport,):
        console.print(f"{transport}: starting; {len(scenarios)} cards x {arguments.turns} turns")
        opened = (
            engine_models(model, judge, deadline_seconds=deadline)
            if transport == "engine"
            else http_models(model, judge, deadline_seconds=deadline, logs=arguments.out)
        )

        def keep(played: Played, transport: str = transport) -> None:
            write_dialogues(arguments.out / f"{transport}.jsonl", played.dialogues)
            record[transport] = played_record(played)
            write_json(arguments.out / "counts.json", record)
            turns = sum(len(dialogue.turns) for dialogue in played.dialogues)
            ended = f"{len(played.dialogues)} of {len(scenarios)} dialogues have ended"
            console.print(f"{transport}: {ended}, {turns} turns, {played.seconds:.0f} s")

        async with opened as models:
            played = await play(
                models,
                domain,
                scenarios,
                num_turns=arguments.turns,
                deadline_seconds=deadline,
                console=console,
                keep=keep,
            )
        console.print(counts_table(transport, played))
    return record


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--model", type=Path, required=True, help="model folder of actor, policy and director"
    )
    parser.add_argument("--judge", type=Path, help="model folder of the judge; default: --model")
    parser.add_argument(
        "--cards", type=Path, help="folder that contains cards/; default: scenarios of --domain"
    )
    parser.add_argument("--domain", default="mica_ray.domains.emotional_support:EMOTIONAL_SUPPORT")
    parser.add_argument("--num-cards", type=int, default=8)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--transport", choices=("engine", "http", "both"), default="both")
    parser.add_argument("--deadline", type=float, default=600.0, help="deadline of one answer, seconds")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for counts, dialogues and server logs"
    )
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
