"""Estimate the maximum cost of a run's role calls. chat/ledger.py counts the actual cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from mica_ray.chat.ledger import Price, Tally, total
from mica_ray.config.role_config import RoleConfig, Seat
from mica_ray.config.run_config import RunConfig
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.repeat_judging import RepeatConfig
from mica_ray.dialogue.role_messages import SpokenTurn, actor_messages, director_messages, judge_messages
from mica_ray.launch.world import role_price
from mica_ray.types import ROLES, Message, RoleName, Scenario

CHARACTERS_PER_TOKEN = 3
"""Characters per token assumed here: English has about four, Chinese one to two."""

ANSWER_TOKENS: Mapping[RoleName, int] = {"actor": 60, "director": 80, "judge": 700}
"""Tokens assumed per answer, limited by `roles.max_tokens`: a message, a move with guidance, 18 fields.
Thinking tokens are not included."""


def estimate_costs(config: RunConfig, domain: Domain) -> Mapping[str, Tally]:
    """Estimate the cost of training, its audit, and the evaluations before and after it, by role.

    Assumes that every dialogue lasts `max_turns` turns, that every turn calls each role once (the Director
    only if the domain has one, the judge again for repeated judgements), and that no call is repaired or
    retried. The prompt length is that of the first training scenario in the middle of such a dialogue.

    Args:
        config: of the run.
        domain: with the scenarios and rules of the run.
    """
    evaluation, sampling = config.evaluation, config.rollout.sampling
    evaluated = len(domain.split(evaluation.split)[: evaluation.max_scenarios]) * evaluation.samples
    trained = config.loop.num_steps * config.dialogues_per_step
    measured = domain if evaluation.rules is None else replace(domain, rules=evaluation.rules)
    training = _tallies(
        config.roles, domain, trained, reply_tokens=sampling.max_tokens, repeat=config.repeat_judging
    )
    reply_tokens = evaluation.sampling_after(sampling).max_tokens
    evaluations = _tallies(
        config.evaluation_roles or config.roles, measured, 2 * evaluated, reply_tokens=reply_tokens
    )
    costs: dict[str, Tally] = {role: tally + evaluations[role] for role, tally in training.items()}
    if config.roles.audit_judge is not None:
        costs["audit_judge"] = _audit_tally(config, domain)
    return costs


def _turns_text(config: RunConfig, domain: Domain) -> str:
    rules = config.evaluation.rules
    own = "" if rules is None else f" and {rules.max_turns} in evaluations"
    return f"{domain.rules.max_turns} turns per dialogue{own}"


def _tallies(
    roles: RoleConfig,
    domain: Domain,
    num_dialogues: int,
    *,
    reply_tokens: int,
    repeat: RepeatConfig | None = None,
) -> Mapping[RoleName, Tally]:
    scenario = (domain.split("train") or domain.scenarios)[0]
    turns = num_dialogues * domain.rules.max_turns
    prompts = _prompts(domain, scenario, reply_tokens=reply_tokens)
    asked: list[RoleName] = [role for role in ROLES if role != "director" or domain.director_prompt]
    again = 0.0 if repeat is None else turns * repeat.fraction * repeat.repeats
    calls: Mapping[RoleName, int] = {
        role: turns + (math.ceil(again) if role == "judge" else 0) for role in asked
    }
    return {role: _role_tally(roles, role, calls[role], prompts[role]) for role in asked}


def _audit_tally(config: RunConfig, domain: Domain) -> Tally:
    """Return the cost of the audit judge; probes of the training judge are few and not included."""
    scenario = (domain.split("train") or domain.scenarios)[0]
    prompts = _prompts(domain, scenario, reply_tokens=config.rollout.sampling.max_tokens)
    audits = -(-config.loop.num_steps // config.audit.every)
    calls = audits * config.audit.sample * domain.rules.max_turns
    return _role_tally(config.roles, "audit_judge", calls, prompts["judge"])


def describe_costs(config: RunConfig, domain: Domain) -> str:
    """Describe the estimate and its assumptions."""
    costs = estimate_costs(config, domain)
    sums = total(costs)
    calls = ", ".join(f"{tally.calls:,} {role}" for role, tally in costs.items())
    tokens = f"{sums.prompt_tokens / 1e6:,.1f} M tokens in, {sums.completion_tokens / 1e6:,.1f} M out"
    price = f"{sums.usd:,.2f} USD" if sums.usd else "no price configured"
    return (
        f"at most about {calls} calls; {tokens}; {price}; "
        f"assuming {_turns_text(config, domain)}, "
        f"{CHARACTERS_PER_TOKEN} characters per token, and answers of "
        f"{', '.join(f'{ANSWER_TOKENS[role]} ({role})' for role in ROLES if role in costs)} tokens"
    )


def _role_tally(roles: RoleConfig, role: Seat, calls: int, prompt_characters: int) -> Tally:
    prompt_tokens = calls * (prompt_characters // CHARACTERS_PER_TOKEN)
    answer_tokens = ANSWER_TOKENS["judge" if role == "audit_judge" else role]
    completion_tokens = calls * min(answer_tokens, roles.max_tokens)
    price: Price = role_price(roles.sources[role])
    return Tally(
        calls=calls,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        usd=price.of(prompt_tokens, completion_tokens),
    )


def _prompts(domain: Domain, scenario: Scenario, *, reply_tokens: int) -> Mapping[RoleName, int]:
    """Return the number of characters of each role's prompt halfway through a dialogue."""
    message = "x" * (ANSWER_TOKENS["actor"] * CHARACTERS_PER_TOKEN)
    turn: SpokenTurn = {"user": message, "reply": "x" * (reply_tokens * CHARACTERS_PER_TOKEN)}
    dialogue = [turn] * max(1, domain.rules.max_turns // 2)
    state = scenario.initial_state
    energy = [0.0] * len(dialogue)
    return {
        "actor": _characters(
            actor_messages(
                domain,
                scenario,
                state=state,
                dialogue=dialogue,
                revealed=scenario.stages,
                guidance=message,
                fragment=None,
            )
        ),
        "director": _characters(
            director_messages(
                domain,
                scenario,
                state=state,
                dialogue=dialogue,
                energy=energy,
                revealed=scenario.stages,
                upcoming={},
            )
        ),
        "judge": _characters(judge_messages(domain, scenario, state=state, dialogue=dialogue)),
    }


def _characters(messages: tuple[Message, ...]) -> int:
    return sum(len(message["content"]) for message in messages)
