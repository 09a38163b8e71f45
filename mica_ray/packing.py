"""Pack trajectories into token rows; split rows over mini-batches, ranks, micro-batches.

Turns share ONE row, and one forward and backward pass, as long as each prompt continues the row.
Nothing is tokenized here: rows contain exactly the tokens that the engine saw and sampled.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mica_ray.checks import at_least
from mica_ray.credit.tokens import spread_over_tokens
from mica_ray.types import Generation, TokenBatch, Trajectory, Turn


class TemplateWarning(UserWarning):
    """A prompt does not continue the turn before it, so that a dialogue needs more than one row."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A trained turn."""

    generation: Generation
    advantage: float


@dataclass(frozen=True, slots=True)
class _Row:
    """One row before padding: its tokens and its trained turns."""

    token_ids: tuple[int, ...]
    pieces: tuple[_Piece, ...]
    group: int


def pack(
    step: int,
    trajectories: Sequence[Trajectory],
    advantages: np.ndarray,
    valid: np.ndarray,
    *,
    pad_id: int,
    temperature: float,
) -> TokenBatch:
    """Pack the trained turns of a step into token rows.

    A valid turn joins the row of the valid turn before it if its prompt begins with that row (prompt and
    reply), and begins a new row otherwise; only the replies of valid turns are inside the mask. Dialogues of
    several rows cause one TemplateWarning for the batch. A dialogue without a valid turn has no row.

    Args:
        step: step of the training loop.
        trajectories: B trajectories whose turns have generations.
        advantages: [B, T], column t for the turn with index t.
        valid: [B, T] bool, the turns to train on.
        pad_id: token that fills rows up to the width of the batch; neither attended to nor trained.
        temperature: sampling temperature of the log probabilities.

    Returns:
        The batch of the step. `loss_tokens` and `loss_turns` count the whole batch.

    Raises:
        ValueError: the shapes disagree, or a valid turn has no tokens to train on.
    """
    if advantages.shape != valid.shape or len(trajectories) != len(valid):
        raise ValueError(
            f"advantages and valid must be [{len(trajectories)}, T], got {advantages.shape}, {valid.shape}."
        )
    rows: list[_Row] = []
    split_scenarios: list[str] = []
    num_split_rows = 0
    for trajectory, row_advantages, row_valid in zip(trajectories, advantages, valid, strict=True):
        pieces = tuple(
            _Piece(_trained_generation(trajectory, turn), float(row_advantages[turn.index]))
            for turn in trajectory.turns
            if row_valid[turn.index]
        )
        dialogue_rows = _rows_of_dialogue(pieces, trajectory.group)
        if len(dialogue_rows) > 1:
            split_scenarios.append(trajectory.scenario.id)
            num_split_rows += len(dialogue_rows)
        rows.extend(dialogue_rows)
    if split_scenarios:
        warnings.warn(
            f"{len(split_scenarios)} of {len(trajectories)} dialogues (first: scenario {split_scenarios[0]}) "
            f"become {num_split_rows} rows: the chat template rewrites earlier turns, or replies contain "
            "turn marks. Set rollout.history=as_sampled, or expect slower updates.",
            TemplateWarning,
            stacklevel=2,
        )
    return _lay_out(step, rows, pad_id=pad_id, temperature=temperature)


def mini_batches(batch: TokenBatch, count: int) -> list[TokenBatch]:
    """Split a batch into one batch per optimizer step without splitting a scenario group.

    Groups keep their order, spread as evenly as possible. Each part has its own `loss_tokens`, `loss_turns`.

    Args:
        batch: the batch of a step.
        count: number of optimizer steps; fewer if the batch has fewer groups.

    Returns:
        At most `count` batches, none empty; [] for a batch without rows.

    Raises:
        ValueError: count < 1.
    """
    at_least(1, count=count)
    in_order = list(dict.fromkeys(batch.group.tolist()))
    parts = [part for part in np.array_split(np.array(in_order, dtype=np.int64), count) if part.size]
    return [_recounted(_take(batch, np.flatnonzero(np.isin(batch.group, part)))) for part in parts]


def shard(batch: TokenBatch, rank: int, world_size: int) -> TokenBatch:
    """Return the rows of one rank, balanced by length.

    Assigns rows from the longest on, each to the rank with the fewest tokens so far. `loss_tokens` and
    `loss_turns` remain those of the whole batch.

    Args:
        batch: the batch of an optimizer step, the same on every rank.
        rank: 0 to world_size - 1.
        world_size: number of ranks.

    Returns:
        The rank's rows in their original order; none for some ranks if there are fewer rows than ranks.

    Raises:
        ValueError: rank is outside 0..world_size - 1.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in [0, {world_size}), got {rank}.")
    return _take(batch, _rows_of_ranks(batch.lengths, world_size)[rank])


def micro_batches(batch: TokenBatch, token_budget: int, count: int | None = None) -> list[TokenBatch]:
    """Split a batch into micro-batches within a token budget, the longest rows first.

    Padding counts. A row longer than the budget is a micro-batch of its own. `loss_tokens` and `loss_turns`
    remain those of the whole batch, so that losses and gradients of the micro-batches add up.

    Args:
        batch: rows of one rank and one optimizer step.
        token_budget: maximum of width times rows, tokens.
        count: minimum number of micro-batches, filled up with rows without trained tokens: all ranks must
            join the same number of collective operations.

    Returns:
        The micro-batches; [] for a batch without rows if count is None.

    Raises:
        ValueError: token_budget < 1.
    """
    rows = np.arange(len(batch.lengths), dtype=np.int64)
    return _filled(batch, _rows_of_micro_batches(batch.lengths, rows, token_budget), count or 0)


def plan_micro_batches(batch: TokenBatch, world_size: int, token_budget: int) -> list[list[TokenBatch]]:
    """Split a batch over ranks, with the same number of micro-batches on every rank.

    The split needs only the lengths of the rows; every row is copied once, into its micro-batch.

    Args:
        batch: the batch of an optimizer step, the same on every rank.
        world_size: number of ranks.
        token_budget: maximum number of padded tokens of a micro-batch.

    Returns:
        [rank][micro-batch].
    """
    plans = [
        _rows_of_micro_batches(batch.lengths, rows, token_budget)
        for rows in _rows_of_ranks(batch.lengths, world_size)
    ]
    count = max(len(plan) for plan in plans)
    return [_filled(batch, plan, count) for plan in plans]


def split_turns(batch: TokenBatch) -> TokenBatch:
    """Split a batch into one row per trained turn, with the same loss and gradient.

    Each row ends with its turn and trains only that turn. For tests, benchmarks, and models that cannot train
    all turns in one pass. Rows are ordered by row and turn; counts and turn ids do not change.
    """
    places = [
        (row, turn, int(np.flatnonzero(ids == turn)[-1]) + 1)
        for row, ids in enumerate(batch.turn_ids)
        for turn in np.unique(ids[ids >= 0]).tolist()
    ]
    rows, turns, ends = np.array(places, dtype=np.int64).reshape(-1, 3).T
    longer = _take(batch, rows, width=int(ends.max(initial=0)))
    own = longer.turn_ids == turns[:, None]
    columns = np.arange(own.shape[1], dtype=np.int64)
    return replace(
        longer,
        token_ids=np.where(columns < ends[:, None], longer.token_ids, 0),
        lengths=ends,
        loss_mask=own,
        advantages=np.where(own, longer.advantages, np.float32(0)),
        behaviour_logprobs=np.where(own, longer.behaviour_logprobs, np.float32(0)),
        turn_ids=np.where(own, longer.turn_ids, -1),
    )


def _rows_of_ranks(lengths: np.ndarray, world_size: int) -> list[np.ndarray]:
    """Return the rows of each rank, in their order: the longest first to the rank with the fewest tokens."""
    load = np.zeros(world_size, dtype=np.int64)
    owner = np.empty(len(lengths), dtype=np.int64)
    for row in np.argsort(-lengths, kind="stable"):
        owner[row] = load.argmin()
        load[owner[row]] += lengths[row]
    return [np.flatnonzero(owner == rank) for rank in range(world_size)]


def _rows_of_micro_batches(lengths: np.ndarray, rows: np.ndarray, token_budget: int) -> list[np.ndarray]:
    """Cut rows into micro-batches within a budget of padded tokens, the longest first."""
    at_least(1, token_budget=token_budget)
    pieces: list[np.ndarray] = []
    rows = rows[np.argsort(-lengths[rows], kind="stable")]
    while rows.size:
        fitting = max(1, token_budget // int(lengths[rows[0]]))
        pieces.append(rows[:fitting])
        rows = rows[fitting:]
    return pieces


def _filled(batch: TokenBatch, plan: Sequence[np.ndarray], count: int) -> list[TokenBatch]:
    """Copy the rows of each micro-batch, and append untrained ones up to a number."""
    return [*(_take(batch, rows) for rows in plan), *(_untrained(batch) for _ in range(len(plan), count))]


def _trained_generation(trajectory: Trajectory, turn: Turn) -> Generation:
    where = f"scenario {trajectory.scenario.id}, sample {trajectory.sample}, turn {turn.index}"
    generation = turn.generation
    if generation is None:
        raise ValueError(
            f"{where}: a valid turn needs its sampled tokens, got a text-only reply. Sample with an engine."
        )
    num_prompt, num_reply = len(generation.prompt_ids), len(generation.token_ids)
    if not num_prompt or not num_reply:
        counts = f"{num_prompt} and {num_reply}"
        raise ValueError(f"{where}: prompt and reply must have at least one token, got {counts}.")
    if len(generation.logprobs) != num_reply:
        count = len(generation.logprobs)
        raise ValueError(f"{where}: {num_reply} tokens must have as many log probabilities, got {count}.")
    return generation


def _rows_of_dialogue(pieces: tuple[_Piece, ...], group: int) -> list[_Row]:
    rows: list[_Row] = []
    for piece in pieces:
        prompt_ids = piece.generation.prompt_ids
        token_ids = (*prompt_ids, *piece.generation.token_ids)
        # The prompt must begin with the whole row before it, or two replies would overlap in one row.
        if rows and prompt_ids[: len(rows[-1].token_ids)] == rows[-1].token_ids:
            rows[-1] = _Row(token_ids, (*rows[-1].pieces, piece), group)
        else:
            rows.append(_Row(token_ids, (piece,), group))
    return rows


def _lay_out(step: int, rows: Sequence[_Row], *, pad_id: int, temperature: float) -> TokenBatch:
    lengths = np.array([len(row.token_ids) for row in rows], dtype=np.int64)
    shape = (len(rows), int(lengths.max(initial=0)))
    token_ids = np.full(shape, pad_id, dtype=np.int32)
    turn_ids = np.full(shape, -1, dtype=np.int32)
    behaviour_logprobs = np.zeros(shape, dtype=np.float32)
    by_turn: list[float] = []
    for index, row in enumerate(rows):
        token_ids[index, : len(row.token_ids)] = row.token_ids
        for piece in row.pieces:
            start = len(piece.generation.prompt_ids)
            columns = slice(start, start + len(piece.generation.token_ids))
            turn_ids[index, columns] = len(by_turn)
            behaviour_logprobs[index, columns] = piece.generation.logprobs
            by_turn.append(piece.advantage)
    loss_mask = turn_ids >= 0
    return TokenBatch(
        step=step,
        token_ids=token_ids,
        lengths=lengths,
        loss_mask=loss_mask,
        advantages=spread_over_tokens(np.array(by_turn), turn_ids),
        behaviour_logprobs=behaviour_logprobs,
        turn_ids=turn_ids,
        group=np.array([row.group for row in rows], dtype=np.int64),
        loss_tokens=int(loss_mask.sum()),
        loss_turns=len(by_turn),
        temperature=temperature,
    )


def _take(batch: TokenBatch, rows: np.ndarray, width: int | None = None) -> TokenBatch:
    if width is None:
        width = int(batch.lengths[rows].max(initial=0))
    return replace(
        batch,
        token_ids=batch.token_ids[rows, :width],
        lengths=batch.lengths[rows],
        loss_mask=batch.loss_mask[rows, :width],
        advantages=batch.advantages[rows, :width],
        behaviour_logprobs=batch.behaviour_logprobs[rows, :width],
        turn_ids=batch.turn_ids[rows, :width],
        group=batch.group[rows],
    )


def _recounted(batch: TokenBatch) -> TokenBatch:
    num_turns = np.unique(batch.turn_ids[batch.loss_mask]).size
    return replace(batch, loss_tokens=int(batch.loss_mask.sum()), loss_turns=num_turns)


def _untrained(batch: TokenBatch) -> TokenBatch:
    # Two tokens, so that one predicts the other. Token 0 is in every vocabulary.
    row = _lay_out(batch.step, [_Row((0, 0), (), -1)], pad_id=0, temperature=batch.temperature)
    return replace(row, loss_tokens=batch.loss_tokens, loss_turns=batch.loss_turns)
