"""`mica evaluate empa`: play the cases of a benchmark with a policy, score them, go on where a call ended."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from mica_ray.chat.ledger import Ledger
from mica_ray.chat.openai_api import Endpoint
from mica_ray.cli.case_bar import CaseBar
from mica_ray.cli.recipes import read_model
from mica_ray.cli.rescore import print_scores
from mica_ray.config import ConfigError, RunConfig
from mica_ray.config.overrides import override, read_value
from mica_ray.config.role_config import EMBEDDED, Player, Recording, RoleSource
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.play import TextPolicy
from mica_ray.evaluation.costs import cost_table
from mica_ray.evaluation.evaluate import EvaluationConfig
from mica_ray.evaluation.report import CONTAMINATED
from mica_ray.evaluation.rescore_report import rescore_record
from mica_ray.evaluation.rescored_files import rescore
from mica_ray.files import write_json
from mica_ray.launch import run
from mica_ray.launch.domain_source import RunDomain, read_domain
from mica_ray.launch.policy_source import fetch_policy, read_policy_facts
from mica_ray.launch.start_world import start_world
from mica_ray.recordings.case_log import CaseLog, CaseLogError
from mica_ray.recordings.recorded_dialogue import RecordingError
from mica_ray.rollout.collect import RolloutConfig, collect
from mica_ray.rollout.engine import EngineError
from mica_ray.runs.folder import RunFolder
from mica_ray.training.loop import SilentProgress
from mica_ray.types import ROLES, Sampling, Scenario, Trajectory

DOMAIN = "mica_ray.domains.empa:EMPA"
"""Whose cases are played when no other is named."""
CONTEXT = 25_000
"""Tokens of a whole dialogue in the benchmark; less where the policy holds less."""
REPLY = 1024
"""Tokens of one reply at most, unless said otherwise."""


@dataclass(frozen=True, slots=True)
class PolicyUnderTest:
    """Who replies, and the config under which it is asked."""

    name: str
    config: RunConfig
    text: Player | Recording | None
    """The model behind an endpoint or of an object; None where an engine samples tokens."""


def run_empa(
    policy: str,
    *,
    roles: Mapping[str, str | None],
    cases: str,
    cards: Path | None,
    domain: str,
    out: Path | None,
    inline: bool,
    assignments: Sequence[str],
    json_file: Path | None,
) -> None:
    """Play the cases that are not finished yet, and score all that are.

    Args:
        policy: a run folder, a model folder, a hub id, or an endpoint or object as roles take them.
        roles: who plays "actor", "director" and "judge"; None for who judges.
        cases: "official", "all" or how many of the official ones.
        cards: folder of cards, None for the domain's own scenarios.
        domain: module:NAME.
        out: folder of the evaluation, None for one named after domain and policy.
        inline: in this process instead of on Ray.
        assignments: `--set` of the config.
        json_file: where the scores are written too.

    Raises:
        ConfigError: one line for what cannot be done.
        EngineError: every case failed.
    """
    console = Console()
    # A run folder brings the scenarios and rules that it trained on; a benchmark has its own.
    values: dict[str, object] = {"domain": domain, "scenarios_file": None, "rules": None, "retellings": 0}
    # Every case once, as the benchmark does, and no card in two splits.
    values |= {"evaluation.samples": 1, "allow_test_cards": False}
    if cards is not None or domain != DOMAIN:
        values["cards"] = None if cards is None else str(cards)
    values |= {f"roles.{name}": read_value(roles[name] or roles["judge"] or "") for name in ROLES}
    tested = read_policy(policy, assignments, values=values)
    loaded = read_domain(tested.config)
    scenarios = choose_cases(loaded.played, cases)
    folder = out or Path("runs") / f"{loaded.played.name}-{_slug(tested.name)}"
    try:
        log = CaseLog(folder, model=tested.name, settings=_settings(tested))
    except CaseLogError as error:
        raise ConfigError(str(error)) from error
    ledger = Ledger()
    _play(tested, loaded, scenarios, log, console, inline=inline, ledger=ledger)
    for trajectory in log.failed:
        console.print(f"{trajectory.scenario.id}: failed: {trajectory.error}", markup=False, soft_wrap=True)
    if not log.num_done(scenarios):
        raise EngineError(f"every case failed, the last one by: {log.failed[-1].error}")
    if ledger.totals():
        console.print(cost_table("what this call took", ledger.totals()))
    _show(log, console, json_file, contaminated=tested.config.contaminated)


def read_policy(
    policy: str, assignments: Sequence[str], *, values: Mapping[str, object] | None = None
) -> PolicyUnderTest:
    """Tell an endpoint or object from a model with weights, and give the config that goes with it.

    Raises:
        ConfigError: it is none of these, or an assignment does not fit.
    """
    path = Path(policy).expanduser()
    if policy.startswith("{") or (":" in policy and not path.exists()):
        text = _read_text_policy(policy)
        base = RunConfig(rollout=_rollout(CONTEXT))
        name = text.model if isinstance(text, Endpoint) else policy
        return PolicyUnderTest(name, override(base, assignments, values=values), text)
    if policy == EMBEDDED or RunFolder.holds_run(path):
        return PolicyUnderTest(path.name, read_model(policy, assignments, values=values), None)
    held = read_policy_facts(fetch_policy(policy, weights=False)).context_length
    base = RunConfig(policy=policy, rollout=_rollout(min(CONTEXT, held or CONTEXT)))
    return PolicyUnderTest(policy, override(base, assignments, values=values), None)


def choose_cases(domain: Domain, cases: str) -> tuple[Scenario, ...]:
    """Give the scenarios that `--cases` names, official ones first.

    Raises:
        ConfigError: it names none.
    """
    official = domain.split("test")
    if cases == "official":
        chosen = official
    elif cases == "all":
        chosen = (*official, *domain.split("valid"), *domain.split("train"))
    elif cases.isdecimal() and int(cases) > 0:
        chosen = official[: int(cases)]
    else:
        raise ConfigError(f"--cases is official, all or a number; got {cases!r}")
    if not chosen:
        raise ConfigError(
            f"domain {domain.name} has no {cases} cases; name the folder of its cards by --cards DIR"
        )
    return chosen


def _read_text_policy(policy: str) -> Player | Recording:
    try:
        value = json.loads(policy) if policy.startswith("{") else policy
        found: Player | Recording = TypeAdapter(RoleSource).validate_python(value)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"--policy: {problem}") from error
    except ValueError as error:
        raise ConfigError(f"--policy {policy} is not valid JSON ({error}).") from error
    if isinstance(found, str):
        raise ConfigError(f"--policy {policy}: plays roles only; give an endpoint or a model folder")
    return found


def _rollout(context_length: int) -> RolloutConfig:
    sampling = Sampling(max_tokens=min(REPLY, context_length // 4))
    return RolloutConfig(sampling=sampling, context_length=context_length, max_concurrent_dialogues=16)


def _evaluated(config: RunConfig) -> RolloutConfig:
    """Give how the policy is asked in an evaluation, as `evaluate` does."""
    sampling, temperature = config.rollout.sampling, config.evaluation.temperature
    if temperature is not None:
        sampling = replace(sampling, temperature=temperature)
    return replace(config.rollout, group_size=config.evaluation.samples, sampling=sampling)


def _settings(tested: PolicyUnderTest) -> dict[str, object]:
    """Give what a dialogue depends on, so that a folder holds dialogues that can be compared."""
    config = tested.config.model_dump(mode="json")
    rollout = _evaluated(tested.config)
    return {
        "model": tested.name,
        "domain": config["domain"],
        "scenarios_file": config["scenarios_file"],
        "cards": config["cards"],
        "card_ratings": config["card_ratings"],
        "rules": config["rules"],
        "roles": {name: config["roles"][name] for name in (*ROLES, "temperature", "max_tokens")},
        "sampling": asdict(rollout.sampling),
        "context_length": rollout.context_length,
        "seed": config["evaluation"]["seed"],
    }


def _play(
    tested: PolicyUnderTest,
    loaded: RunDomain,
    scenarios: Sequence[Scenario],
    log: CaseLog,
    console: Console,
    *,
    inline: bool,
    ledger: Ledger,
) -> None:
    samples = tested.config.evaluation.samples
    missing = log.missing(scenarios, samples)
    done = log.num_done(scenarios)
    if not missing:
        console.print(f"{log.dialogues}: all {done} dialogues are finished", highlight=False)
        return
    with CaseBar(console, done=done, total=len(scenarios) * samples) as bar:

        def record(trajectory: Trajectory) -> None:
            log.record(trajectory)
            bar.ended(trajectory)

        asyncio.run(_play_missing(tested, loaded, missing, record, inline=inline, ledger=ledger))


async def _play_missing(
    tested: PolicyUnderTest,
    loaded: RunDomain,
    scenarios: Sequence[Scenario],
    record: Callable[[Trajectory], None],
    *,
    inline: bool,
    ledger: Ledger,
) -> None:
    config, rollout = tested.config, _evaluated(tested.config)
    async with AsyncExitStack() as stack:
        if tested.text is None:
            checked = run.check(config, inline=inline, trains=False, loaded=loaded)
            parts = await stack.enter_async_context(
                run.set_up(checked, progress=SilentProgress(), ledger=ledger)
            )
            world, policy = parts.world, parts.policy(config)
        else:
            world, model = await start_world(
                stack, config, loaded.played, inline=inline, ledger=ledger, policy=tested.text
            )
            assert model is not None, "a text policy was given"
            policy = TextPolicy(model)
            # Every reply has its deadline; a dialogue with a slow endpoint may take hours.
            rollout = replace(rollout, dialogue_deadline_seconds=math.inf)
        await collect(
            scenarios,
            world.environment,
            policy,
            rollout,
            step=0,
            seed=config.evaluation.seed,
            policy_prompt=world.policy_prompt,
            progress=record,
        )


def _show(log: CaseLog, console: Console, json_file: Path | None, *, contaminated: bool) -> None:
    try:
        results = rescore([log.dialogues], seed=EvaluationConfig().seed)
    except RecordingError as error:
        raise ConfigError(str(error)) from error
    print_scores(results, console)
    if contaminated:
        console.print(CONTAMINATED, highlight=False)
    scores = rescore_record(results)
    record = {name: {"contaminated": contaminated, **score} for name, score in scores.items()}
    for path in (log.folder / "score.json", json_file):
        if path is not None:
            write_json(path, record)
    lost = f"; {len(log.failed)} failed, the same command plays them again" if log.failed else ""
    console.print(f"dialogues: {log.dialogues}{lost}", highlight=False, soft_wrap=True)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "policy"
