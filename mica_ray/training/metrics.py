"""What a step is measured by: every metric's name, formula and unit in one table, and what computes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np

from mica_ray.chat.ledger import POLICY, Tally, total
from mica_ray.credit.returns import dialogue_rewards
from mica_ray.dialogue.answer_counts import ROLES, count_answers
from mica_ray.rewards import Rewards
from mica_ray.types import Status, Stop, TokenBatch, Trajectory, TurnRewards, UpdateReport

_STATUS_TEXTS: Mapping[Status, str] = {
    Status.OK: "that came at once",
    Status.RETRIED: "that took its endpoint several attempts",
    Status.REPAIRED: "that it corrected when asked to",
    Status.INVALID: "that could not be used",
    Status.TIMED_OUT: "that did not come in time",
    Status.ABANDONED: "given up because its endpoint was down or refused",
}

_COST_TEXTS: Mapping[str, tuple[str, str]] = {
    "calls": ("calls", "count"),
    "failed_calls": ("calls without an answer", "count"),
    "retries": ("attempts beyond the first", "count"),
    "prompt_tokens": ("tokens of the prompts", "tokens"),
    "completion_tokens": ("tokens of the answers, thinking included", "tokens"),
    "seconds": ("time of the calls, added up, waiting included,", "seconds"),
    "usd": ("price of the calls", "USD"),
}
_POLICY_COSTS = ("calls", "prompt_tokens", "completion_tokens")
"""What trajectories tell of the model in training."""

METRICS: Mapping[str, str] = {
    "idr_mean": "mean over judged turns of D(P_{t-1}) - D(P_t), zone distance; points per turn",
    "reward_mean": "mean reward of the turns that count, in the run's own reward; reward units",
    "return_mean": "mean over dialogues of the summed rewards, failed dialogues left out; reward units",
    "success_fraction": "dialogues that ended in success / dialogues that did not fail; share",
    "collapse_fraction": "dialogues that ended in collapse / dialogues that did not fail; share",
    "turns_mean": "mean number of turns of the dialogues that did not fail; turns",
    "reply_tokens_mean": "mean sampled tokens of a reply; tokens",
    "truncated_reply_fraction": "replies cut at max_tokens / replies; share",
    "failed_judgement_fraction": "judgements without a score / judgements; share",
    "failed_dialogue_fraction": "dialogues lost to a simulator or engine / dialogues; share",
    "director_failures": "decisions that the director failed to give, over all dialogues; count",
    "zero_variance_group_fraction": "groups with advantages all 0 / groups with a turn that counts; share",
    "survivor_fraction": "dialogues that reach the last turn of their group, mean over groups; share",
    "advantage_std": "population standard deviation of the advantages of the turns that count; no unit",
    "advantage_max": "largest absolute advantage; no unit",
    "staleness_mean": "weight versions from sampling to training, mean over replies; versions",
    "batch_rows": "rows of the token batch; rows",
    "batch_tokens": "tokens of the batch without padding; tokens",
    "weight_version": "version after the update; count",
    "loss": "policy loss, mean over the optimiser steps; nats times advantage",
    "clip_fraction": "trained tokens whose ratio was clipped / trained tokens; share",
    "dual_clip_fraction": "trained tokens held by the dual clip / trained tokens; share",
    "importance_capped_fraction": "trained tokens whose importance weight was capped / trained tokens; share",
    "ratio_mean": "mean of pi / pi_old over trained tokens; no unit",
    "kl": "mean estimated divergence from the reference over trained tokens, 0 without a KL term; nats",
    "entropy": "-mean log pi of the sampled tokens before the first optimiser step; nats",
    "logprob_difference_mean": "mean |learner - engine| log probability, before the update; nats",
    "logprob_difference_max": "largest |learner - engine| log probability, before the update; nats",
    "grad_norm": "global gradient norm before clipping, mean over optimiser steps; loss per unit",
    "grad_norm_max": "global gradient norm before clipping, largest; loss per unit",
    "learning_rate": "learning rate of the last optimiser step; no unit",
    "trained_tokens": "tokens inside the loss mask; tokens",
    "trained_turns": "turns inside the loss mask; turns",
    "optimiser_steps": "optimiser steps made by this update; count",
    "worker_restarts": "restarts of the learner's worker group since the run began; count",
    "rollout_seconds": "time to collect the step's dialogues; seconds",
    "update_seconds": "time of the learner's update; seconds",
    "weights_seconds": "time to bring the new weights to every engine; seconds",
    "eval_epm_q": "EPM-Q of an evaluation, mean over scenarios (evaluation/epm_q.py); score",
    "eval_pass_fraction": "evaluation dialogues that ended in success / those scored; share",
    "eval_idr_mean": "mean over scenarios of the mean IDR of their judged turns; points per turn",
    "eval_failed_dialogues": "evaluation dialogues that failed or had no judged turn; count",
    "eval_failed_judgements": "judgements of an evaluation without a score; count",
    "data_failures": "answers of actor, director and judge that could not be used; count",
    "infrastructure_failures": "answers of the three that never came: too late, server down; count",
    **{
        f"{role}_{status}": f"answers of the {role} {_STATUS_TEXTS[status]}; count"
        for role in ROLES
        for status in Status
    },
    **{
        f"{role}_{name}": f"{text} of the {role}; {unit}"
        for role in (*ROLES, POLICY)
        for name, (text, unit) in _COST_TEXTS.items()
        if role != POLICY or name in _POLICY_COSTS
    },
    "usd": "price of the step's calls, all roles; USD",
}


def metrics_table() -> str:
    """Give the table as markdown, for the description of a tracked run."""
    return "\n".join(
        [
            "| metric | formula; unit |",
            "|---|---|",
            *(f"| {name} | {text} |" for name, text in METRICS.items()),
        ]
    )


def step_metrics(
    trajectories: Sequence[Trajectory],
    turns: TurnRewards,
    *,
    advantages: np.ndarray,
    batch: TokenBatch,
    report: UpdateReport,
) -> dict[str, float]:
    """Measure a step.

    Names and formulas are those of `METRICS`; a mean over nothing is left out, not reported as 0.

    Args:
        trajectories: B trajectories.
        turns: their rewards [B, T].
        advantages: [B, T], no unit.
        batch: what the learner was given.
        report: what it did with it.
    """
    found = {
        **_dialogue_metrics(trajectories),
        **_answer_metrics(trajectories),
        **_credit_metrics(turns, advantages),
        **_reply_metrics(trajectories, report.version - 1),
        "return_mean": _mean(dialogue_rewards(turns.rewards, turns.valid)[turns.valid.any(axis=1)]),
        "reward_mean": _mean(turns.rewards[turns.valid]),
        "batch_rows": float(len(batch.lengths)),
        "batch_tokens": float(batch.lengths.sum()),
        "weight_version": float(report.version),
        **report.metrics,
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def cost_metrics(spent: Mapping[str, Tally]) -> dict[str, float]:
    """Give what calls took, by the names of `METRICS`.

    Args:
        spent: by role; roles that were not asked are left out.
    """
    costs = {
        f"{role}_{name}": float(getattr(tally, name))
        for role, tally in spent.items()
        if tally.calls
        for name in (_POLICY_COSTS if role == POLICY else _COST_TEXTS)
    }
    return {**costs, "usd": total(spent).usd}


def _dialogue_metrics(trajectories: Sequence[Trajectory]) -> dict[str, float | None]:
    alive = [trajectory for trajectory in trajectories if trajectory.stop is not Stop.FAILED]
    judgements = [turn.judgement for trajectory in alive for turn in trajectory.turns]
    idr = Rewards()(trajectories)
    return {
        "idr_mean": _mean(idr.rewards[idr.valid]),
        "success_fraction": _mean([trajectory.is_success for trajectory in alive]),
        "collapse_fraction": _mean([trajectory.stop is Stop.COLLAPSE for trajectory in alive]),
        "turns_mean": _mean([len(trajectory.turns) for trajectory in alive]),
        "failed_judgement_fraction": _mean([not judgement.is_valid for judgement in judgements]),
        "failed_dialogue_fraction": _mean([trajectory.stop is Stop.FAILED for trajectory in trajectories]),
        "director_failures": float(sum(trajectory.director_failures for trajectory in trajectories)),
    }


def _answer_metrics(trajectories: Sequence[Trajectory]) -> dict[str, float | None]:
    """Count the roles' answers by status; roles that were never asked are left out."""
    counts = count_answers(trajectories)
    asked = {role for role, _ in counts}
    kinds = Counter[str | None]()
    for (_, status), count in counts.items():
        kinds[status.failure_kind] += count
    return {
        **{
            f"{role}_{status}": float(counts[role, status])
            for role in ROLES
            if role in asked
            for status in Status
        },
        "data_failures": float(kinds["data"]),
        "infrastructure_failures": float(kinds["infrastructure"]),
    }


def _reply_metrics(trajectories: Sequence[Trajectory], version: int) -> dict[str, float | None]:
    """Measure the sampled replies; `version` is that of the weights the update started from."""
    generations = [
        turn.generation
        for trajectory in trajectories
        for turn in trajectory.turns
        if turn.generation is not None
    ]
    return {
        "reply_tokens_mean": _mean([len(generation.token_ids) for generation in generations]),
        "truncated_reply_fraction": _mean(
            [generation.finish_reason == "length" for generation in generations]
        ),
        "staleness_mean": _mean([version - generation.policy_version for generation in generations]),
    }


def _credit_metrics(turns: TurnRewards, advantages: np.ndarray) -> dict[str, float | None]:
    counted = advantages[turns.valid]
    is_flat: list[bool] = []
    survivors: list[float] = []
    order = np.argsort(turns.group, kind="stable")
    for _, rows in groupby(order.tolist(), key=lambda row: int(turns.group[row])):
        members = list(rows)
        valid = turns.valid[members]
        if not valid.any():
            continue
        is_flat.append(bool(np.all(advantages[members][valid] == 0)))
        last = np.flatnonzero(valid.any(axis=0))[-1]
        survivors.append(float(valid[:, last].mean()))
    return {
        "advantage_std": float(counted.std()) if counted.size else None,
        "advantage_max": float(np.abs(counted).max()) if counted.size else None,
        "zero_variance_group_fraction": _mean(is_flat),
        "survivor_fraction": _mean(survivors),
    }


def _mean(values: Sequence[float] | np.ndarray) -> float | None:
    """Give the mean, None over nothing."""
    return float(np.mean(values)) if len(values) else None
