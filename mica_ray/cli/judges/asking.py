"""Ask one judge of a card under a progress bar; its log keeps every answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from mica_ray.cli.empa import slug
from mica_ray.cli.options import writing

if TYPE_CHECKING:
    from mica_ray.config import RunConfig
    from mica_ray.dialogue.domain import Domain
    from mica_ray.judges.card.asking import Failure
    from mica_ray.judges.card.findings import Findings
    from mica_ray.judges.card.log import JudgementLog
    from mica_ray.judges.card.presentations import Presentation
    from mica_ray.judges.card.turns import RecordedTurn

_LINES = 20
"""Lines of progress per judge where there is no terminal."""


@dataclass(frozen=True, slots=True)
class CardQuestions:
    """What all judges are asked, and how."""

    config: RunConfig
    domain: Domain
    turns: tuple[RecordedTurn, ...]
    conditions: tuple[str, ...]
    repeats: int
    seed: int
    concurrency: int
    folder: Path
    inline: bool


def judged(asked: CardQuestions, name: str, config: RunConfig, console: Console) -> Findings:
    """Ask one judge what its log does not answer yet, and return its findings."""
    import numpy as np

    from mica_ray.config import ConfigError
    from mica_ray.dialogue.judger import Judge
    from mica_ray.judges.card.findings import findings
    from mica_ray.judges.card.log import JudgementLog, JudgementLogError
    from mica_ray.judges.card.noise import Bootstrap
    from mica_ray.judges.card.presentations import applicable, main_language, presentations
    from mica_ray.judges.card.turns import point_levels

    language = main_language(asked.turns)
    has_prompt = not isinstance(config.roles.judge, Judge)
    conditions = applicable(asked.conditions, asked.domain, language, has_prompt=has_prompt)
    questions = presentations(asked.turns, asked.domain, conditions, repeats=asked.repeats)
    try:
        with writing("--out", asked.folder):
            log = JudgementLog(asked.folder / f"{slug(name)}.jsonl", _log_settings(asked, config))
    except JudgementLogError as error:
        raise ConfigError(str(error)) from error
    missing = log.missing(questions)
    if missing:
        failures = asyncio.run(_ask(asked, name, config, missing, log, console))
        _report(name, failures, console, is_empty=not log.answers(questions))
    else:
        console.print(
            f"{log.path}: all {len(questions)} judgements are there.", highlight=False, soft_wrap=True
        )
    return findings(
        name,
        asked.turns,
        questions,
        log.answers(questions),
        levels=point_levels(asked.domain),
        repeats=asked.repeats,
        bootstrap=Bootstrap(np.array([turn.case for turn in asked.turns]), asked.seed),
    )


def _log_settings(asked: CardQuestions, config: RunConfig) -> dict[str, object]:
    """Return everything a judge's answer depends on, besides the question."""
    from mica_ray.judges.card.presentations import questions_digest

    roles = config.model_dump(mode="json")["roles"]
    return {
        **{key: roles[key] for key in ("judge", "temperature", "max_tokens", "chat_template_arguments")},
        "seed": asked.seed,
        "domain": asked.domain.name,
        "questions": questions_digest(asked.domain),
    }


async def _ask(
    asked: CardQuestions,
    name: str,
    config: RunConfig,
    missing: Sequence[Presentation],
    log: JudgementLog,
    console: Console,
) -> tuple[Failure, ...]:
    """Start the judge and ask it, under a progress bar."""
    from mica_ray.cli.progress import new_bars
    from mica_ray.judges.card.asking import ask_all
    from mica_ray.judges.card.log import Judged
    from mica_ray.launch.start_world import started_judge
    from mica_ray.launch.world import role_price

    done = 0
    with new_bars(console) as bars:
        task = bars.add_task(f"ask {name}", total=len(missing))

        def record(judged: Judged) -> None:
            nonlocal done
            log.record(judged)
            done += 1
            bars.advance(task)
            if not console.is_terminal and done % max(1, len(missing) // _LINES) == 0:
                console.print(f"{name}: {done}/{len(missing)} judgements", highlight=False)

        async with started_judge(config, asked.domain, inline=asked.inline) as judge:
            return await ask_all(
                judge,
                missing,
                record=record,
                seed=asked.seed,
                price=role_price(config.roles.judge),
                concurrency=asked.concurrency,
            )


def _report(name: str, failures: Sequence[Failure], console: Console, *, is_empty: bool) -> None:
    from mica_ray.rollout.engine import EngineError

    if not failures:
        return
    if is_empty:
        raise EngineError(f"{name}: every call failed. The last error was: {failures[-1].error}")
    console.print(
        f"{name}: {len(failures)} questions have no answer; the same command asks them again. The last "
        f"error was: {failures[-1].error}",
        soft_wrap=True,
        highlight=False,
    )
