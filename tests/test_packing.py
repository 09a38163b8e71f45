"""Packing by eye: 1x are tokens of the system and user, 2x of the policy; then every way to split a batch."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.packing import (
    TemplateWarning,
    micro_batches,
    mini_batches,
    pack,
    plan_micro_batches,
    shard,
    split_turns,
)
from mica_ray.types import Generation, Judgement, Scenario, Stop, TokenBatch, Trajectory, Turn


def turn(index: int, prompt: list[int], reply: list[int]) -> Turn:
    generation = Generation(
        prompt_ids=tuple(prompt),
        token_ids=tuple(reply),
        logprobs=tuple(-token / 10 for token in reply),
        text="",
        finish_reason="stop",
        policy_version=0,
    )
    judgement = Judgement(progress=(0, 0, 0), regress=(0, 0, 0), delta=(0.0, 0.0, 0.0))
    return Turn(
        index=index, user="", reply="", judgement=judgement, state_after=(0, 0, 0), generation=generation
    )


def dialogue(*turns: Turn, group: int = 0, scenario: str = "s1") -> Trajectory:
    card = Scenario(
        id=scenario,
        domain="test",
        category="test",
        dominant_axis="A",
        persona="",
        opening="",
        initial_state=(0.0, 0.0, 0.0),
        stages=(),
        split="train",
    )
    return Trajectory(scenario=card, group=group, sample=0, turns=turns, stop=Stop.LIMIT)


TWO_TURNS = dialogue(turn(0, [10, 11], [20, 21]), turn(1, [10, 11, 20, 21, 12], [22]))
REWRITTEN = dialogue(turn(0, [10, 11], [20, 21]), turn(1, [10, 11, 20, 12], [22]), scenario="s9")


def packed(
    trajectories: list[Trajectory], advantages: list[list[float]], valid: list[list[bool]]
) -> TokenBatch:
    return pack(3, trajectories, np.array(advantages), np.array(valid), pad_id=99, temperature=0.7)


def test_dialogue_becomes_one_row_with_the_user_masked_out() -> None:
    batch = packed([TWO_TURNS], [[0.5, -1.0]], [[True, True]])
    np.testing.assert_array_equal(batch.token_ids, [[10, 11, 20, 21, 12, 22]])
    np.testing.assert_array_equal(batch.loss_mask, [[0, 0, 1, 1, 0, 1]])
    np.testing.assert_array_equal(batch.turn_ids, [[-1, -1, 0, 0, -1, 1]])
    np.testing.assert_allclose(batch.advantages, [[0, 0, 0.5, 0.5, 0, -1.0]])
    np.testing.assert_allclose(batch.behaviour_logprobs, [[0, 0, -2.0, -2.1, 0, -2.2]], rtol=1e-6)
    assert (batch.step, batch.loss_tokens, batch.loss_turns, batch.temperature) == (3, 3, 2, 0.7)
    assert (batch.token_ids.dtype, batch.advantages.dtype, batch.loss_mask.dtype) == (
        np.int32,
        np.float32,
        bool,
    )


def test_rows_are_padded_on_the_right_and_turns_numbered_through_the_batch() -> None:
    short = dialogue(turn(0, [13], [23]), group=1)
    batch = packed([TWO_TURNS, short], [[1, 1], [2, 0]], [[True, True], [True, False]])
    np.testing.assert_array_equal(batch.token_ids[1], [13, 23, 99, 99, 99, 99])
    np.testing.assert_array_equal(batch.turn_ids[1], [-1, 2, -1, -1, -1, -1])
    np.testing.assert_array_equal(batch.lengths, [6, 2])
    np.testing.assert_array_equal(batch.group, [0, 1])


def test_turn_that_is_not_valid_stays_as_context() -> None:
    batch = packed([TWO_TURNS], [[7.0, -1.0]], [[False, True]])
    np.testing.assert_array_equal(batch.token_ids, [[10, 11, 20, 21, 12, 22]])
    np.testing.assert_array_equal(batch.loss_mask, [[0, 0, 0, 0, 0, 1]])
    assert not batch.advantages[0, :5].any()


def test_what_follows_the_last_valid_turn_is_left_out() -> None:
    batch = packed([TWO_TURNS], [[1.0, 0.0]], [[True, False]])
    np.testing.assert_array_equal(batch.token_ids, [[10, 11, 20, 21]])


def test_valid_turn_without_credit_is_still_trained() -> None:
    batch = packed([TWO_TURNS], [[0.0, 0.0]], [[True, True]])
    assert batch.loss_tokens == 3


def test_dialogue_without_a_valid_turn_gives_no_row() -> None:
    batch = packed([TWO_TURNS], [[1.0, 1.0]], [[False, False]])
    assert batch.token_ids.shape == (0, 0)
    assert (batch.loss_tokens, batch.loss_turns) == (0, 0)
    assert mini_batches(batch, 2) == []
    assert plan_micro_batches(batch, 2, 64) == [[], []]


def test_template_that_rewrites_history_falls_back_to_one_row_per_turn() -> None:
    # The second prompt dropped token 21 of the first reply.
    with pytest.warns(TemplateWarning, match=r"1 of 2 dialogues \(first: scenario s9\)"):
        batch = packed([TWO_TURNS, REWRITTEN], [[1, 2], [3, 4]], [[True, True], [True, True]])
    np.testing.assert_array_equal(batch.lengths, [6, 4, 5])
    np.testing.assert_array_equal(batch.token_ids[1:, :5], [[10, 11, 20, 21, 99], [10, 11, 20, 12, 22]])
    np.testing.assert_array_equal(batch.loss_mask[1:, :5], [[0, 0, 1, 1, 0], [0, 0, 0, 0, 1]])
    assert batch.advantages[2, 4] == 4
    assert batch.loss_turns == 4


def test_turns_that_continue_a_later_row_are_merged_into_it() -> None:
    # Turn 1 rewrites turn 0 (its prompt lacks token 21); turn 2 continues turn 1, and turn 3 rewrites again.
    played = dialogue(
        turn(0, [10, 11], [20, 21]),
        turn(1, [10, 11, 20, 12], [22]),
        turn(2, [10, 11, 20, 12, 22, 13], [23, 24]),
        turn(3, [10, 14], [25]),
    )
    with pytest.warns(TemplateWarning, match="1 of 1 dialogues .* become 3 rows"):
        batch = packed([played], [[1, 2, 3, 4]], [[True] * 4])
    assert [row[:length].tolist() for row, length in zip(batch.token_ids, batch.lengths, strict=True)] == [
        [10, 11, 20, 21],
        [10, 11, 20, 12, 22, 13, 23, 24],
        [10, 14, 25],
    ]
    np.testing.assert_array_equal(batch.turn_ids[1], [-1, -1, -1, -1, 1, -1, 2, 2])
    np.testing.assert_allclose(batch.advantages[1], [0, 0, 0, 0, 2, 0, 3, 3])
    assert (batch.loss_turns, batch.loss_tokens) == (4, 6)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 3), st.booleans()), min_size=1, max_size=8),
)
def test_a_row_ends_only_where_a_prompt_does_not_continue_it(
    plan: list[tuple[bool, int, bool]],
) -> None:
    # Of each turn: whether its prompt continues the turn before, its reply's length, whether it is valid.
    turns: list[Turn] = []
    row: list[int] = []
    for index, (continues, length, _) in enumerate(plan):
        prompt = [*row, 100 + index] if continues else [200 + index]
        reply = [300 + 10 * index + place for place in range(length)]
        turns.append(turn(index, prompt, reply))
        row = [*prompt, *reply]
    valid = [is_valid for _, _, is_valid in plan]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TemplateWarning)
        batch = packed([dialogue(*turns)], [[1.0] * len(plan)], [valid])
    # A break between two valid turns ends a row, wherever it is.
    chosen = [index for index, is_valid in enumerate(valid) if is_valid]
    breaks = sum(
        not all(plan[index][0] for index in range(before + 1, after + 1))
        for before, after in pairwise(chosen)
    )
    assert len(batch.lengths) == breaks + bool(chosen)
    trained = batch.token_ids[batch.loss_mask].tolist()
    assert trained == [token for index in chosen for token in turns[index].generation.token_ids]  # type: ignore[union-attr]


def test_warning_counts_the_dialogues_and_names_the_first() -> None:
    other = replace(REWRITTEN, scenario=replace(REWRITTEN.scenario, id="s7"))
    with pytest.warns(TemplateWarning) as caught:
        pack(0, [REWRITTEN, other], np.ones((2, 2)), np.ones((2, 2), bool), pad_id=0, temperature=1.0)
    assert [str(warning.message) for warning in caught] == [
        "2 of 2 dialogues (first: scenario s9) become 4 rows: the chat template rewrites earlier turns, or "
        "replies contain turn marks. Set rollout.history=as_sampled, or expect slower updates."
    ]


def test_dialogue_that_needs_no_fall_back_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        packed([TWO_TURNS], [[1, 2]], [[True, True]])
        packed([REWRITTEN], [[1, 2]], [[False, True]])


def test_turn_without_tokens_is_named() -> None:
    text_only = dialogue(replace(turn(0, [1], [2]), generation=None), scenario="s5")
    with pytest.raises(ValueError, match=r"scenario s5, sample 0, turn 0: .*text-only"):
        packed([text_only], [[1.0]], [[True]])


@pytest.mark.parametrize(("prompt", "reply"), [([1], []), ([], [2]), ([], [])])
def test_turn_without_prompt_or_reply_tokens_is_named(prompt: list[int], reply: list[int]) -> None:
    counts = f"got {len(prompt)} and {len(reply)}"
    with pytest.raises(ValueError, match=rf"s1, sample 0, turn 0: .* at least one token, {counts}\."):
        packed([dialogue(turn(0, prompt, reply))], [[1.0]], [[True]])


def test_turn_with_a_missing_log_probability_is_named() -> None:
    generation = turn(0, [1], [2, 3]).generation
    assert generation is not None
    short = replace(turn(0, [1], [2, 3]), generation=replace(generation, logprobs=(-0.2,)))
    with pytest.raises(ValueError, match="2 tokens must have as many log probabilities, got 1"):
        packed([dialogue(short)], [[1.0]], [[True]])


@pytest.mark.parametrize(
    ("advantages", "valid"),
    [([[1.0]], [[True, True]]), ([[1.0, 1.0]] * 2, [[True, True]] * 2), ([[1.0, 1.0]] * 2, [[True, True]])],
)
def test_shapes_that_disagree_are_refused(advantages: list[list[float]], valid: list[list[bool]]) -> None:
    shapes = rf"got \({len(advantages)}, {len(advantages[0])}\), \({len(valid)}, 2\)\."
    with pytest.raises(ValueError, match=rf"advantages and valid must be \[1, T\], {shapes}"):
        packed([TWO_TURNS], advantages, valid)


ARRAYS = {
    "token_ids": np.int32,
    "lengths": np.int64,
    "loss_mask": np.bool_,
    "advantages": np.float32,
    "behaviour_logprobs": np.float32,
    "turn_ids": np.int32,
    "group": np.int64,
}


def test_types_of_the_arrays_survive_every_split() -> None:
    batch = packed([TWO_TURNS], [[0.5, -1.0]], [[True, True]])
    empty = packed([TWO_TURNS], [[0.5, -1.0]], [[False, False]])
    split = [*mini_batches(batch, 1), *micro_batches(batch, 6, 2), shard(batch, 1, 2), split_turns(batch)]
    for part in (batch, empty, split_turns(empty), *split):
        assert {name: getattr(part, name).dtype for name in ARRAYS} == ARRAYS


def test_split_turns_gives_one_row_per_trained_turn() -> None:
    batch = packed([TWO_TURNS], [[0.5, -1.0]], [[True, True]])
    turns = split_turns(batch)
    np.testing.assert_array_equal(turns.token_ids, [[10, 11, 20, 21, 0, 0], [10, 11, 20, 21, 12, 22]])
    np.testing.assert_array_equal(turns.loss_mask, [[0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1]])
    np.testing.assert_array_equal(turns.lengths, [4, 6])
    np.testing.assert_array_equal(turns.turn_ids, [[-1, -1, 0, 0, -1, -1], [-1, -1, -1, -1, -1, 1]])
    np.testing.assert_allclose(turns.advantages, [[0, 0, 0.5, 0.5, 0, 0], [0, 0, 0, 0, 0, -1.0]])
    expected = [[0, 0, -2.0, -2.1, 0, 0], [0, 0, 0, 0, 0, -2.2]]
    np.testing.assert_allclose(turns.behaviour_logprobs, expected, rtol=1e-6)
    assert (turns.loss_tokens, turns.loss_turns) == (3, 2)


def test_split_turns_goes_row_by_row_and_drops_what_follows() -> None:
    # Row 0 has turns 0 and 1, row 1 has turn 2 and a longer prompt; the widest turn has 6 tokens.
    longer = dialogue(turn(0, [13, 14, 15], [23]), group=5)
    batch = packed([TWO_TURNS, longer], [[1, 2], [3, 0]], [[True, True], [True, False]])
    turns = split_turns(batch)
    assert turns.turn_ids.max(axis=1).tolist() == [0, 1, 2]
    assert turns.group.tolist() == [0, 0, 5]
    assert turns.lengths.tolist() == [4, 6, 4]
    assert turns.token_ids[2].tolist() == [13, 14, 15, 23, 0, 0]
    alone = split_turns(packed([TWO_TURNS], [[1, 0]], [[True, False]]))
    assert alone.token_ids.tolist() == [[10, 11, 20, 21]]
    assert split_turns(packed([TWO_TURNS], [[1, 1]], [[False, False]])).token_ids.shape == (0, 0)


def rows_of(lengths: list[int], groups: list[int] | None = None) -> TokenBatch:
    """One dialogue of one turn per length: a prompt of one token, then a reply."""
    dialogues = [
        dialogue(turn(0, [10], [20 + row] * (length - 1)), group=group)
        for row, (length, group) in enumerate(zip(lengths, groups or range(len(lengths)), strict=True))
    ]
    return packed(dialogues, [[1.0]] * len(lengths), [[True]] * len(lengths))


def test_mini_batches_never_split_a_group_and_count_anew() -> None:
    batch = rows_of([2, 3, 4, 5, 6], groups=[7, 7, 3, 7, 3])
    first, second = mini_batches(batch, 2)
    np.testing.assert_array_equal(first.group, [7, 7, 7])
    np.testing.assert_array_equal(second.group, [3, 3])
    # Trained tokens are length - 1: 1 + 2 + 4 and 3 + 5.
    assert (first.loss_tokens, first.loss_turns) == (7, 3)
    assert (second.loss_tokens, second.loss_turns) == (8, 2)
    assert first.token_ids.shape[1] == 5  # no padding beyond the longest row


def test_mini_batches_spread_groups_evenly() -> None:
    # Five groups over two steps: three and two.
    batch = rows_of([2] * 5)
    assert [mini.group.tolist() for mini in mini_batches(batch, 2)] == [[0, 1, 2], [3, 4]]
    assert [mini.group.tolist() for mini in mini_batches(batch, 1)] == [[0, 1, 2, 3, 4]]


def test_more_mini_batches_than_groups_give_one_per_group() -> None:
    assert [mini.group.tolist() for mini in mini_batches(rows_of([2, 2]), 5)] == [[0], [1]]


def test_micro_batches_fill_the_budget_with_rows_of_like_length() -> None:
    # Longest first, width x rows <= 12: [9], [6, 5], [2, 2] and never 9 + 6.
    pieces = micro_batches(rows_of([2, 9, 5, 2, 6]), 12)
    assert [piece.lengths.tolist() for piece in pieces] == [[9], [6, 5], [2, 2]]
    assert {piece.loss_tokens for piece in pieces} == {1 + 8 + 4 + 1 + 5}


@pytest.mark.parametrize(
    ("budget", "expected"), [(11, [[4, 4], [4]]), (12, [[4, 4, 4]]), (13, [[4, 4, 4]]), (1, [[4], [4], [4]])]
)
def test_micro_batch_may_fill_its_budget_exactly(budget: int, expected: list[list[int]]) -> None:
    assert [piece.lengths.tolist() for piece in micro_batches(rows_of([4, 4, 4]), budget)] == expected


def test_micro_batches_are_filled_up_with_rows_that_train_nothing() -> None:
    batch = rows_of([3, 4])
    pieces = micro_batches(batch, 100, 3)
    assert [piece.lengths.tolist() for piece in pieces] == [[4, 3], [2], [2]]
    filler = pieces[-1]
    assert filler.token_ids.tolist() == [[0, 0]]
    assert (filler.group.tolist(), filler.turn_ids.tolist()) == ([-1], [[-1, -1]])
    assert not filler.loss_mask.any() and not filler.advantages.any() and not filler.behaviour_logprobs.any()
    assert (filler.step, filler.temperature) == (3, 0.7)
    assert (filler.loss_tokens, filler.loss_turns) == (5, 2)
    assert len(micro_batches(batch, 100, 1)) == 1
    assert len(micro_batches(batch, 1, 1)) == 2


def test_row_beyond_the_budget_is_a_piece_of_its_own() -> None:
    pieces = micro_batches(rows_of([9, 2, 2]), 4)
    assert [piece.lengths.tolist() for piece in pieces] == [[9], [2, 2]]


def test_shard_balances_tokens() -> None:
    # 9 -> rank 0; 6, 5 -> rank 1; then 2 goes to the lighter rank 0 (9 < 11), and so does the last (11 = 11).
    batch = rows_of([2, 9, 5, 2, 6])
    assert shard(batch, 0, 2).lengths.tolist() == [2, 9, 2]
    assert shard(batch, 1, 2).lengths.tolist() == [5, 6]
    assert (shard(batch, 1, 2).loss_tokens, shard(batch, 1, 2).loss_turns) == (19, 5)


def test_equal_rows_go_to_the_ranks_in_turn() -> None:
    batch = rows_of([3, 3, 3, 3])
    assert [shard(batch, rank, 3).group.tolist() for rank in range(3)] == [[0, 3], [1], [2]]
    assert [shard(batch, rank, 5).group.tolist() for rank in range(5)] == [[0], [1], [2], [3], []]


@pytest.mark.parametrize(("first", "second", "num_rows"), [([2], [2, 9], 1), ([2], [3], 2), ([2, 3], [2], 2)])
def test_prompt_must_begin_with_the_whole_turn_before_it(
    first: list[int], second: list[int], num_rows: int
) -> None:
    played = dialogue(turn(0, [1], first), turn(1, [1, *second], [4]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TemplateWarning)
        assert len(packed([played], [[1, 1]], [[True, True]]).lengths) == num_rows


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda batch: mini_batches(batch, 0), "count must be >= 1"),
        (lambda batch: micro_batches(batch, 0), "token_budget must be >= 1"),
        (lambda batch: shard(batch, 2, 2), r"rank must be in \[0, 2\), got 2\."),
        (lambda batch: shard(batch, -1, 2), r"rank must be in \[0, 2\), got -1\."),
    ],
    ids=["mini_batches", "micro_batches", "shard_above", "shard_below"],
)
def test_impossible_split_is_refused(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call(rows_of([2, 2]))


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(2, 12), min_size=1, max_size=9),
    st.integers(1, 4),
    st.integers(1, 30),
)
def test_plan_covers_every_trained_token_once_and_keeps_ranks_in_step(
    lengths: list[int], world_size: int, budget: int
) -> None:
    batch = rows_of(lengths)
    plan = plan_micro_batches(batch, world_size, budget)
    assert len(plan) == world_size
    assert len({len(pieces) for pieces in plan}) == 1
    pieces = [piece for rank in plan for piece in rank]
    trained = sorted(turn for piece in pieces for turn in piece.turn_ids[piece.loss_mask].tolist())
    assert trained == sorted(batch.turn_ids[batch.loss_mask].tolist())
    for piece in pieces:
        assert piece.loss_tokens == batch.loss_tokens
        assert piece.loss_turns == batch.loss_turns
        assert piece.token_ids.size <= budget or len(piece.lengths) == 1
        assert piece.token_ids.shape[1] >= 2
        assert not piece.loss_mask[:, 0].any()
