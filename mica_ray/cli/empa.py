"""`mica evaluate empa`: play the cases of a benchmark with a policy and score them; later calls continue."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mica_ray.cli.options import (
    ActorOption,
    DirectorOption,
    InlineOption,
    JsonFileOption,
    JudgeOption,
    PolicyOption,
    SetOption,
    TrustOption,
    new_console,
    save_json,
)

if TYPE_CHECKING:
    from mica_ray.chat.ledger import Ledger
    from mica_ray.config import RunConfig
    from mica_ray.config.role_config import Player, Recording
    from mica_ray.dialogue.domain import Domain
    from mica_ray.evaluation.evaluate import EvaluationConfig
    from mica_ray.launch.domain_source import RunDomain
    from mica_ray.recordings.case_log import CaseLog
    from mica_ray.rollout.collect import RolloutConfig
    from mica_ray.types import Scenario, Trajectory

DOMAIN = "mica_ray.domains.empa:EMPA"
"""The domain whose cases are played unless --domain names another."""
CONTEXT = 25_000
"""Tokens of a whole dialogue in the benchmark; less if the policy's context is shorter."""
REPLY = 8192
"""Default limit of one reply, in tokens; less if the policy's context is shorter."""


@dataclass(frozen=True, slots=True)
class PolicyUnderTest:
    """The policy that replies, and the config under which it is evaluated."""

    name: str
    config: RunConfig
    text: Player | Recording | None
    """A policy that is called by text (endpoint or object); None if an engine samples its tokens."""


def empa_command(
    policy: PolicyOption,
    judge: JudgeOption,
    actor: ActorOption = None,
    director: DirectorOption = None,
    cases: Annotated[
        str,
        typer.Option(help="`official`, `all`, or a number: so many of the official cases."),
    ] = "official",
    cards: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the EMPA cards that you bring.")
    ] = None,
    domain: Annotated[str, typer.Option(metavar="MODULE:NAME", help="The domain to play.")] = DOMAIN,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the evaluation. Default: runs/DOMAIN-POLICY. Only missing cases are played.",
        ),
    ] = None,
    inline: InlineOption = False,
    sets: SetOption = None,
    json_file: JsonFileOption = None,
    trust: TrustOption = False,
) -> None:
    """Play the cases of EMPA with a policy and score them.

    Every finished case is kept: the same command continues where an earlier one stopped.
    """
    from mica_ray.chat.ledger import Ledger
    from mica_ray.config import ConfigError
    from mica_ray.evaluation.costs import cost_table
    from mica_ray.launch.benchmark import dialogue_settings
    from mica_ray.launch.domain_source import read_domain
    from mica_ray.recordings.case_log import CaseLog, CaseLogError
    from mica_ray.rollout.engine import EngineError

    console = new_console()
    values = {**role_values(judge, actor, director), **benchmark_values(domain, cards)}
    tested = read_policy(policy, values, sets or ())
    loaded = read_domain(tested.config)
    scenarios = choose_cases(loaded.played, cases)
    folder = out or Path("runs") / f"{loaded.played.name}-{slug(tested.name)}"
    try:
        log = CaseLog(folder, model=tested.name, settings=dialogue_settings(tested.name, tested.config))
    except CaseLogError as error:
        raise ConfigError(str(error)) from error
    ledger = Ledger()
    _play(tested, loaded, scenarios, log, console, inline=inline, ledger=ledger)
    for trajectory in log.failed:
        console.print(f"{trajectory.scenario.id}: failed: {trajectory.error}", markup=False, soft_wrap=True)
    if not log.num_done(scenarios):
        raise EngineError(f"Every case failed. The last error was: {log.failed[-1].error}")
    if ledger.totals():
        console.print(cost_table("Calls and costs of this command", ledger.totals()))
    _show(log, console, json_file, contaminated=tested.config.contaminated)


def role_values(judge: str, actor: str | None, director: str | None) -> dict[str, object]:
    """Return the config values of the three roles; without models of their own, all are the judge's."""
    from mica_ray.config.overrides import read_value

    return {
        "roles.judge": read_value(judge),
        "roles.actor": read_value(actor or judge),
        "roles.director": read_value(director or judge),
    }


def benchmark_values(domain: str, cards: Path | None) -> dict[str, object]:
    """Return the config values that a benchmark fixes, whatever the run of the policy was trained with."""
    values: dict[str, object] = {
        # A run folder's config names the scenarios and rules it was trained on; a benchmark has its own.
        "domain": domain,
        "scenarios_file": None,
        "rules": None,
        "retellings": 0,
        # Each case once, as in the benchmark, and no card in two splits.
        "evaluation.samples": 1,
        "allow_test_cards": False,
        "evaluation.rules": None,
        "evaluation_roles": None,
    }
    if cards is not None or domain != DOMAIN:
        values["cards"] = None if cards is None else str(cards)
    return values


def read_policy(policy: str, values: Mapping[str, object], assignments: Sequence[str]) -> PolicyUnderTest:
    """Return the policy that `--policy` names, with the config for its evaluation.

    Args:
        policy: a run folder, a model folder, a hub id, or an endpoint or object as roles take them.
        values: config values of the benchmark at dotted keys.
        assignments: `--set` of the command, applied last.

    Raises:
        ConfigError: it names no policy, or an assignment does not fit.
    """
    from mica_ray.chat.openai_api import Endpoint
    from mica_ray.cli.recipes import read_model
    from mica_ray.config import RunConfig
    from mica_ray.config.overrides import override
    from mica_ray.config.role_config import EMBEDDED
    from mica_ray.launch.policy_source import fetch_policy, read_policy_facts
    from mica_ray.rollout.engine_config import EngineConfig
    from mica_ray.runs.folder import RunFolder

    path = Path(policy).expanduser()
    if policy.startswith("{") or (":" in policy and not path.exists()):
        text = _read_text_policy(policy)
        base = RunConfig(rollout=_rollout(CONTEXT), evaluation=_evaluation())
        name = text.model if isinstance(text, Endpoint) else policy
        return PolicyUnderTest(name, override(base, assignments, values=values), text)
    if policy == EMBEDDED or RunFolder.holds_run(path):
        return PolicyUnderTest(path.name, read_model(policy, assignments, values=values), None)
    supported = read_policy_facts(fetch_policy(policy, weights=False)).context_length
    context = min(CONTEXT, supported or CONTEXT)
    base = RunConfig(
        policy=policy,
        rollout=_rollout(context),
        engine=EngineConfig(max_model_len=context, kv_cache_gib=4.0),
        evaluation=_evaluation(),
    )
    return PolicyUnderTest(policy, override(base, assignments, values=values), None)


def choose_cases(domain: Domain, cases: str) -> tuple[Scenario, ...]:
    """Return the scenarios that `--cases` names, official ones first.

    Raises:
        ConfigError: the option is invalid, or the domain has no such cases.
    """
    from mica_ray.config import ConfigError

    official = domain.split("test")
    if cases == "official":
        chosen = official
    elif cases == "all":
        chosen = (*official, *domain.split("valid"), *domain.split("train"))
    elif cases.isdecimal() and int(cases) > 0:
        chosen = official[: int(cases)]
    else:
        raise ConfigError(f"--cases must be official, all or a number > 0, got {cases!r}.")
    if not chosen:
        raise ConfigError(
            f"--cases {cases}: domain {domain.name} has none. Name the folder of its cards with --cards DIR."
        )
    return chosen


def _read_text_policy(policy: str) -> Player | Recording:
    from pydantic import TypeAdapter, ValidationError

    from mica_ray.config import ConfigError
    from mica_ray.config.overrides import read_value
    from mica_ray.config.role_config import RoleSource

    try:
        found: Player | Recording = TypeAdapter(RoleSource).validate_python(read_value(policy))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"--policy: {problem}") from error
    if isinstance(found, str):
        raise ConfigError(f"--policy {policy}: this form is only for roles. Name an endpoint or a folder.")
    return found


def _rollout(context_length: int) -> RolloutConfig:
    from mica_ray.rollout.collect import RolloutConfig
    from mica_ray.types import Sampling

    sampling = Sampling(max_tokens=min(REPLY, context_length // 3))
    return RolloutConfig(sampling=sampling, context_length=context_length, max_concurrent_dialogues=16)


def _evaluation() -> EvaluationConfig:
    """Return the published sampling of the benchmark."""
    from mica_ray.evaluation.comparable import PUBLISHED_SAMPLING as PUBLISHED
    from mica_ray.evaluation.evaluate import EvaluationConfig

    return EvaluationConfig(
        temperature=PUBLISHED.temperature,
        top_p=PUBLISHED.top_p,
        presence_penalty=PUBLISHED.presence_penalty,
    )


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
    """Play the cases that are not finished yet."""
    from mica_ray.cli.progress import CaseBar
    from mica_ray.launch.benchmark import play_cases

    samples = tested.config.evaluation.samples
    missing = log.missing(scenarios, samples)
    done = log.num_done(scenarios)
    if not missing:
        console.print(f"{log.dialogues}: all {done} dialogues are finished.", highlight=False)
        return
    with CaseBar(console, done=done, total=len(scenarios) * samples) as bar:

        def record(trajectory: Trajectory) -> None:
            log.record(trajectory)
            bar.ended(trajectory)

        played = play_cases(
            tested.config, loaded, missing, record, text_policy=tested.text, inline=inline, ledger=ledger
        )
        asyncio.run(played)


def _show(log: CaseLog, console: Console, json_file: Path | None, *, contaminated: bool) -> None:
    from mica_ray.cli.evaluate import print_scores
    from mica_ray.config import ConfigError
    from mica_ray.evaluation.evaluate import EvaluationConfig
    from mica_ray.evaluation.rescore_tables import rescore_record
    from mica_ray.evaluation.rescored_files import rescore
    from mica_ray.evaluation.tables import CONTAMINATED
    from mica_ray.files import write_json
    from mica_ray.recordings.recorded_dialogue import RecordingError

    try:
        scores = rescore([log.dialogues], seed=EvaluationConfig().seed)
    except RecordingError as error:
        raise ConfigError(str(error)) from error
    print_scores(scores, console)
    if contaminated:
        console.print(CONTAMINATED, highlight=False)
    record = {name: {"contaminated": contaminated, **score} for name, score in rescore_record(scores).items()}
    write_json(log.folder / "score.json", record)
    save_json(json_file, record)
    failed = f". {len(log.failed)} failed; the same command plays them again" if log.failed else ""
    console.print(f"dialogues: {log.dialogues}{failed}", highlight=False, soft_wrap=True)


def slug(name: str) -> str:
    """Return a name as part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "policy"
