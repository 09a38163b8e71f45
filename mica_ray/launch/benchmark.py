"""The cases of a benchmark: the dialogues a policy plays under its config. cli/empa.py is the command."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, replace

from mica_ray.chat.ledger import Ledger
from mica_ray.config.role_config import Player, Recording
from mica_ray.config.run_config import RunConfig
from mica_ray.dialogue.play import TextPolicy
from mica_ray.launch import run
from mica_ray.launch.domain_source import RunDomain
from mica_ray.launch.start_world import start_world
from mica_ray.rollout.collect import RolloutConfig, dialogue_start, play_all
from mica_ray.training.progress import SilentProgress
from mica_ray.types import ROLES, Scenario, Trajectory

Case = tuple[Scenario, int]
"""A scenario and the number of its dialogue, from 0."""

PLAYED_ROLE_KEYS = (*ROLES, "temperature", "max_tokens", "shows_needs")
"""Keys of `roles` on which the texts of a dialogue depend."""


def evaluation_rollout(config: RunConfig) -> RolloutConfig:
    """Return how the policy is sampled in an evaluation, as `mica evaluate` does it."""
    sampling = config.evaluation.sampling_after(config.rollout.sampling)
    return replace(config.rollout, group_size=config.evaluation.samples, sampling=sampling)


def dialogue_settings(name: str, config: RunConfig) -> dict[str, object]:
    """Return everything a dialogue depends on, so that one folder holds only comparable dialogues."""
    values, rollout = config.model_dump(mode="json"), evaluation_rollout(config)
    return {
        "model": name,
        "domain": values["domain"],
        "scenarios_file": values["scenarios_file"],
        "cards": values["cards"],
        "card_ratings": values["card_ratings"],
        "rules": values["rules"],
        "roles": {role: values["roles"][role] for role in PLAYED_ROLE_KEYS},
        "sampling": asdict(rollout.sampling),
        "context_length": rollout.context_length,
        # Only where it differs from what folders of earlier versions hold.
        **({} if rollout.history == "template" else {"history": rollout.history}),
        "seed": values["evaluation"]["seed"],
    }


async def play_cases(
    config: RunConfig,
    loaded: RunDomain,
    scenarios: Sequence[Scenario],
    record: Callable[[Trajectory], None],
    *,
    text_policy: Player | Recording | None,
    inline: bool,
    ledger: Ledger,
) -> None:
    """Play `config.evaluation.samples` dialogues of each scenario, as `play_rounds` does."""
    samples = range(config.evaluation.samples)
    rounds = iter([[(scenario, sample) for scenario in scenarios for sample in samples]])
    await play_rounds(
        config,
        loaded,
        lambda: next(rounds, ()),
        record,
        text_policy=text_policy,
        inline=inline,
        ledger=ledger,
    )


async def play_rounds(
    config: RunConfig,
    loaded: RunDomain,
    next_cases: Callable[[], Sequence[Case]],
    record: Callable[[Trajectory], None],
    *,
    text_policy: Player | Recording | None,
    inline: bool,
    ledger: Ledger,
) -> None:
    """Play cases in rounds, so that the outcome of one round decides what the next one plays.

    The seed of a dialogue depends on the evaluation seed, the scenario and the sample, never on the round.

    Args:
        config: policy, roles and evaluation settings.
        loaded: the domain of the config.
        next_cases: returns the cases of the next round; none ends the play.
        record: receives every dialogue when it ends.
        text_policy: a policy that is called by text; None samples tokens of `config.policy` with an engine.
        inline: in this process instead of on Ray.
        ledger: counts the calls of the roles.
    """
    rollout, seed = evaluation_rollout(config), config.evaluation.seed
    async with AsyncExitStack() as stack:
        if text_policy is None:
            checked = run.check(config, inline=inline, trains=False, loaded=loaded)
            parts = await stack.enter_async_context(
                run.set_up(checked, progress=SilentProgress(), ledger=ledger)
            )
            world, policy = parts.world, parts.policy(config)
        else:
            world, model = await start_world(
                stack, config, loaded.played, inline=inline, ledger=ledger, policy=text_policy
            )
            assert model is not None, "a text policy was given"
            policy = TextPolicy(model)
            # Every reply has its deadline; a dialogue with a slow endpoint may take hours.
            rollout = replace(rollout, dialogue_deadline_seconds=math.inf)
        while cases := next_cases():
            starts = [
                dialogue_start(scenario, seed=seed, step=0, group=number, sample=sample)
                for number, (scenario, sample) in enumerate(cases)
            ]
            await play_all(
                starts,
                lambda start: world.environment(start.scenario, start.seed),
                policy,
                rollout,
                policy_prompt=world.policy_prompt,
                progress=record,
            )
