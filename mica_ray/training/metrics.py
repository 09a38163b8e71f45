"""The metrics of a step: a table of names, definitions and units, and their computation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np

from mica_ray.chat.ledger import POLICY, Tally, total
from mica_ray.credit.estimator import CreditEstimator
from mica_ray.credit.noise_gate import Gated
from mica_ray.credit.returns import dialogue_rewards
from mica_ray.dialogue.answer_counts import count_answers, count_early_ends, count_unfound_evidence
from mica_ray.rewards import Rewards
from mica_ray.training.audit.metrics import AUDIT_METRICS
from mica_ray.types import ROLES, Status, Stop, TokenBatch, Trajectory, TurnRewards, UpdateReport

_STATUS_TEXTS: Mapping[Status, str] = {
    Status.OK: "valid at the first attempt",
    Status.RETRIED: "received after the call was repeated",
    Status.REPAIRED: "valid after the model was asked to correct them",
    Status.INVALID: "that stayed invalid",
    Status.TIMED_OUT: "that missed their deadline",
    Status.ABANDONED: "not received because the endpoint was down or refused the call",
}

_COST_TEXTS: Mapping[str, tuple[str, str]] = {
    "calls": ("calls to the {}", "count"),
    "failed_calls": ("calls to the {} that returned no answer", "count"),
    "retries": ("repeated attempts within the {}'s calls", "count"),
    "prompt_tokens": ("prompt tokens of the {}", "tokens"),
    "completion_tokens": ("generated tokens of the {}, thinking included", "tokens"),
    "seconds": ("duration of the {}'s calls, waiting included, summed over parallel calls", "seconds"),
    "usd": ("price of the {}'s calls", "USD"),
}
_POLICY_COSTS = ("calls", "prompt_tokens", "completion_tokens")
"""Logged for the policy. Its seconds and failed calls are in costs.jsonl only."""

METRICS: Mapping[str, str] = {
    "idr_mean": "mean over judged turns of D(P_{t-1}) - D(P_t), D the zone distance; points per turn",
    "reward_mean": "mean reward of a valid turn, under the run's own reward function; reward units",
    "return_mean": "mean over dialogues of the summed turn rewards, failed ones excluded; reward units",
    "success_fraction": "dialogues that ended in success / dialogues that did not fail; fraction",
    "collapse_fraction": "dialogues that ended in collapse / dialogues that did not fail; fraction",
    "turns_mean": "mean number of turns of a dialogue that did not fail; turns",
    "reply_tokens_mean": "mean number of sampled tokens per policy reply; tokens",
    "truncated_reply_fraction": "replies cut off at sampling.max_tokens / replies; fraction",
    "silent_reply_fraction": "replies without words, such as an unfinished thought / replies; fraction",
    "failed_judgement_fraction": "judgements without a score / judgements of dialogues not failed; fraction",
    "failed_dialogue_fraction": "dialogues lost to a role model, engine or deadline / dialogues; fraction",
    "director_failures": "decisions that the director failed to make, over all dialogues; count",
    "director_early_ends": "times the director ended a dialogue too early, and it continued; count",
    "zero_variance_group_fraction": "groups whose advantages are all 0 / groups with a valid turn; fraction",
    "gated_turn_fraction": "turns excluded by the noise gate / trained turns without the gate; fraction",
    "repeated_judgements": "further judgements of turns near a tie that were asked for; count",
    "failed_repeated_judgements": "further judgements of turns near a tie without a score; count",
    "survivor_fraction": "dialogues that reach the last turn of their group, mean over groups; fraction",
    "advantage_std": "population standard deviation of the advantages of valid turns; dimensionless",
    "advantage_max": "largest absolute advantage of a valid turn; dimensionless",
    "staleness_mean": "mean difference between the trained and the sampling weight version; versions",
    "batch_rows": "rows of the token batch, one per dialogue unless the template rewrites turns; rows",
    "batch_tokens": "tokens of the batch without padding; tokens",
    "weight_version": "version of the weights after the update; count",
    "loss": "policy loss, mean over the optimizer steps; nats times advantage",
    "clip_fraction": "trained tokens whose probability ratio was clipped / trained tokens; fraction",
    "dual_clip_fraction": "trained tokens limited by the dual clip / trained tokens; fraction",
    "importance_capped_fraction": "trained tokens with a capped importance weight / trained tokens; fraction",
    "ratio_mean": "mean probability ratio pi / pi_old over trained tokens; dimensionless",
    "kl": "mean KL estimate against the initial policy over trained tokens, 0 without KL term; nats",
    "entropy": "mean of -log pi over the sampled tokens before the first optimizer step; nats",
    "logprob_difference_mean": "mean |learner - engine| log probability of a token before the update; nats",
    "logprob_difference_max": "largest |learner - engine| log probability of a token before the update; nats",
    "grad_norm": "global gradient norm before clipping, mean over the optimizer steps; loss per unit",
    "grad_norm_max": "global gradient norm before clipping, maximum over the optimizer steps; loss per unit",
    "learning_rate": "learning rate of the last optimizer step; dimensionless",
    "trained_tokens": "tokens that enter the loss; tokens",
    "trained_turns": "turns that enter the loss; turns",
    "optimiser_steps": "optimizer steps of this update; count",
    "worker_restarts": "restarts of the learner's worker group since the run started; count",
    "rollout_seconds": "duration of collecting the step's dialogues; seconds",
    "update_seconds": "duration of the learner's update; seconds",
    "weights_seconds": "duration of loading the new weights into every engine; seconds",
    "eval_epm_q": "EPM-Q score of an evaluation, mean over scenarios (evaluation/epm_q.py); score",
    "eval_pass_fraction": "evaluation dialogues that ended in success / scored ones; fraction",
    "eval_idr_mean": "mean over scenarios of the mean IDR of their judged turns; points per turn",
    "eval_failed_dialogues": "evaluation dialogues that failed or had no judged turn; count",
    "eval_failed_judgements": "evaluation judgements without a score; count",
    "unfound_evidence": "evidence texts of the judge that occur nowhere in the dialogue; count",
    "eval_silent_replies": "evaluation replies without words, such as an unfinished thought; count",
    "data_failures": "answers of actor, director and judge that stayed invalid; count",
    "infrastructure_failures": "answers of actor, director and judge lost to timeouts or outages; count",
    **{
        f"{role}_{status}": f"answers of the {role} {_STATUS_TEXTS[status]}; count"
        for role in ROLES
        for status in Status
    },
    **{
        f"{role}_{name}": f"{text.format(role)}; {unit}"
        for role in (*ROLES, POLICY)
        for name, (text, unit) in _COST_TEXTS.items()
        if role != POLICY or name in _POLICY_COSTS
    },
    "usd": "price of the step's calls, all roles together; USD",
    **AUDIT_METRICS,
}
"""Name of each metric -> its definition; its unit."""


def metrics_table() -> str:
    """Return the table as markdown, for the description of a tracked run."""
    return "\n".join(
        [
            "| metric | definition; unit |",
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
    """Compute the metrics of a step, as `METRICS` defines them.

    A mean over no values is left out, not reported as 0.

    Args:
        trajectories: B trajectories.
        turns: their rewards [B, T].
        advantages: [B, T], no unit.
        batch: the learner's input.
        report: the learner's output.
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


def gate_metrics(credit: CreditEstimator, turns: TurnRewards) -> dict[str, float]:
    """Return what the noise gate excluded under the name of `METRICS`; nothing without a gate or turns."""
    fraction = credit.gated_fraction(turns) if isinstance(credit, Gated) else None
    return {} if fraction is None else {"gated_turn_fraction": fraction}


def cost_metrics(spent: Mapping[str, Tally], audit: Mapping[str, Tally] | None = None) -> dict[str, float]:
    """Return the costs of calls under the names of `METRICS`.

    Args:
        spent: by role; roles without calls are left out.
        audit: by role, the calls of the audit; None without one.
    """
    audited = total(audit or {})
    costs = {
        f"{role}_{name}": float(getattr(tally, name))
        for role, tally in spent.items()
        if tally.calls
        for name in (_POLICY_COSTS if role == POLICY else _COST_TEXTS)
    }
    if audit is not None:
        costs |= {"audit/calls": float(audited.calls), "audit/usd": audited.usd}
    return {**costs, "usd": total(spent).usd + audited.usd}


def _dialogue_metrics(trajectories: Sequence[Trajectory]) -> dict[str, float | None]:
    alive = [trajectory for trajectory in trajectories if trajectory.stop is not Stop.FAILED]
    judgements = [turn.judgement for item in alive for turn in item.turns if not turn.is_silent]
    idr = Rewards()(trajectories)
    return {
        "idr_mean": _mean(idr.rewards[idr.valid]),
        "success_fraction": _mean([trajectory.is_success for trajectory in alive]),
        "collapse_fraction": _mean([trajectory.stop is Stop.COLLAPSE for trajectory in alive]),
        "turns_mean": _mean([len(trajectory.turns) for trajectory in alive]),
        "silent_reply_fraction": _mean([turn.is_silent for item in trajectories for turn in item.turns]),
        "failed_judgement_fraction": _mean([not judgement.is_valid for judgement in judgements]),
        "failed_dialogue_fraction": _mean([trajectory.stop is Stop.FAILED for trajectory in trajectories]),
        "director_failures": float(sum(trajectory.director_failures for trajectory in trajectories)),
        "director_early_ends": float(count_early_ends(trajectories)),
    }


def _answer_metrics(trajectories: Sequence[Trajectory]) -> dict[str, float | None]:
    """Count the roles' answers by status; roles without answers are left out."""
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
        "unfound_evidence": float(count_unfound_evidence(trajectories)),
        "data_failures": float(kinds["data"]),
        "infrastructure_failures": float(kinds["infrastructure"]),
    }


def _reply_metrics(trajectories: Sequence[Trajectory], version: int) -> dict[str, float | None]:
    """Measure the sampled replies; `version` is the weight version before the update."""
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
    """Return the mean; None without values."""
    return float(np.mean(values)) if len(values) else None
