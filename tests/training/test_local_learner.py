"""The in-process learner: the numbers of an update, and an exact restore."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from mica_ray.losses import LossConfig
from mica_ray.rollout.weights import resolve
from mica_ray.training.learner import LearnerError
from mica_ray.training.local_learner import LocalLearner
from mica_ray.training.update import LearnerConfig
from tests.tiny_policy import random_batch, write_tiny_policy

CONFIG = LearnerConfig(learning_rate=1e-3, total_updates=8, micro_batch_tokens=10_000)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_tiny_policy(tmp_path_factory.mktemp("policy"))


def weights_of(learner: LocalLearner) -> np.ndarray:
    return resolve(learner.weights())[0].data


@pytest.mark.parametrize("aggregation", ["token_mean", "turn_mean"])
def test_micro_batches_add_up_to_the_whole_batch(
    policy: Path, aggregation: Literal["token_mean", "turn_mean"]
) -> None:
    config = replace(CONFIG, loss=LossConfig(aggregation=aggregation))
    whole = LocalLearner(policy, config)
    pieces = LocalLearner(policy, replace(config, micro_batch_tokens=24))  # one row at a time
    batch = random_batch(1)
    a, b = whole.update(batch), pieces.update(batch)
    assert set(a.metrics) == set(b.metrics)
    for name, value in a.metrics.items():
        # fp32 sums in another order.
        assert value == pytest.approx(b.metrics[name], rel=1e-4, abs=1e-6), name


def test_gradient_of_an_update_is_that_of_the_plain_formula(policy: Path) -> None:
    # On policy the ratio is 1, so d loss = -sum(A d log pi) / tokens, whatever the clipping.
    from transformers import AutoModelForCausalLM

    batch = random_batch(2)
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    ids = torch.as_tensor(batch.token_ids)
    logits = model(input_ids=ids).logits[:, :-1]
    logprobs = torch.log_softmax(logits, dim=-1).gather(-1, ids[:, 1:, None])[..., 0]
    weighted = logprobs * torch.as_tensor(batch.advantages[:, 1:] * batch.loss_mask[:, 1:])
    (-weighted.sum() / batch.loss_tokens).backward()
    squares = [(p.grad**2).sum() for p in model.parameters() if p.grad is not None]
    norm = torch.stack(squares).sum().sqrt().item()
    report = LocalLearner(policy, CONFIG).update(batch)
    assert report.metrics["grad_norm"] == pytest.approx(norm, rel=1e-4)


def test_engine_difference_is_measured_before_the_weights_move(policy: Path) -> None:
    # The engine claims log(1/200) for every token; log pi of the sampled tokens averages -entropy.
    for mini_batches in (1, 3):
        report = LocalLearner(policy, replace(CONFIG, mini_batches=mini_batches)).update(random_batch(3))
        if mini_batches == 1:
            first = report.metrics
    assert report.metrics["optimiser_steps"] == 3
    for name in ("logprob_difference_mean", "logprob_difference_max", "entropy"):
        assert report.metrics[name] == pytest.approx(first[name], rel=1e-5)


def test_later_mini_batches_are_off_policy_and_clip(policy: Path) -> None:
    config = replace(CONFIG, learning_rate=0.05, warmup_fraction=0.0, mini_batches=2, epochs=2)
    metrics = LocalLearner(policy, config).update(random_batch(4)).metrics
    assert metrics["optimiser_steps"] == 4
    assert metrics["clip_fraction"] > 0
    assert metrics["ratio_mean"] != pytest.approx(1.0, abs=1e-3)


def test_kl_to_the_initial_policy_is_zero_at_first_and_grows(policy: Path) -> None:
    config = replace(CONFIG, learning_rate=0.02, loss=LossConfig(kl_coefficient=0.1))
    learner = LocalLearner(policy, config)
    values = [learner.update(random_batch(5)).metrics["kl"] for _ in range(3)]
    assert values[0] == pytest.approx(0.0, abs=1e-9)
    assert values[2] > 1e-4


def test_batch_without_trained_tokens_moves_nothing(policy: Path) -> None:
    learner = LocalLearner(policy, CONFIG)
    before = weights_of(learner)
    batch = random_batch(6)
    nowhere = np.zeros_like(batch.loss_mask)
    turn_ids = np.full_like(batch.turn_ids, -1)
    empty = replace(batch, loss_mask=nowhere, turn_ids=turn_ids, loss_tokens=0, loss_turns=0)
    report = learner.update(empty)
    assert report.version == 1
    assert report.metrics["optimiser_steps"] == 0
    np.testing.assert_array_equal(weights_of(learner), before)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saved_learner_continues_bit_for_bit(policy: Path, tmp_path: Path, dtype: str) -> None:
    config = replace(CONFIG, dtype=dtype, mini_batches=2)
    straight, first, second = (LocalLearner(policy, config) for _ in range(3))
    for seed in range(4):
        straight.update(random_batch(seed))
    for seed in range(2):
        first.update(random_batch(seed))
    first.save(tmp_path)
    second.restore(tmp_path)
    for seed in range(2, 4):
        report = second.update(random_batch(seed))
    assert report.version == 4
    np.testing.assert_array_equal(weights_of(second), weights_of(straight))


def test_bfloat16_keeps_steps_too_small_for_its_own_digits(policy: Path) -> None:
    # 8 bits of mantissa cannot add 1e-5 to a weight of 0.02, but the fp32 masters sum such steps up.
    learner = LocalLearner(
        policy, replace(CONFIG, dtype="bfloat16", learning_rate=1e-5, schedule="constant", total_updates=100)
    )
    before = weights_of(learner)
    for _ in range(30):
        learner.update(random_batch(7))
    assert (weights_of(learner) != before).mean() > 0.05


def test_gradient_checkpointing_changes_no_number(policy: Path) -> None:
    plain, checkpointed = (
        LocalLearner(policy, CONFIG),
        LocalLearner(policy, replace(CONFIG, gradient_checkpointing=True)),
    )
    batch = random_batch(8)
    assert plain.update(batch).metrics["grad_norm"] == pytest.approx(
        checkpointed.update(batch).metrics["grad_norm"], rel=1e-6
    )


def test_saved_policy_loads_in_transformers_with_its_tokenizer_files(policy: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    learner = LocalLearner(policy, CONFIG)
    learner.update(random_batch(9))
    learner.save(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "policy")
    assert (tmp_path / "policy" / "tokenizer_config.json").read_text() == (
        policy / "tokenizer_config.json"
    ).read_text()
    embedding = dict(model.named_parameters())["model.embed_tokens.weight"]
    (bucket,) = resolve(learner.weights())
    position = bucket.names.index("model.embed_tokens.weight")
    assert bucket.shapes[position] == tuple(embedding.shape)
    assert model.lm_head.weight is embedding or torch.equal(model.lm_head.weight, embedding)


def test_checkpoint_of_another_model_is_refused_in_one_line(policy: Path, tmp_path: Path) -> None:
    LocalLearner(write_tiny_policy(tmp_path / "other", layers=1), CONFIG).save(tmp_path)
    with pytest.raises(LearnerError, match="checkpoint of another model") as caught:
        LocalLearner(policy, CONFIG).restore(tmp_path)
    assert "\n" not in str(caught.value)


def test_folder_without_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LearnerError, match=r"has no config\.json"):
        LocalLearner(tmp_path, CONFIG)


def test_non_finite_advantages_end_the_update(policy: Path) -> None:
    batch = random_batch(10)
    with pytest.raises(LearnerError, match="gradient norm of step 0 is nan"):
        LocalLearner(policy, CONFIG).update(replace(batch, advantages=np.full_like(batch.advantages, np.nan)))


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_engine_without_finite_log_probabilities_is_named_and_nothing_changes(
    tmp_path: Path, wrong: float, cap: float | None
) -> None:
    config = LearnerConfig(loss=LossConfig(importance_cap=cap))
    learner = LocalLearner(write_tiny_policy(tmp_path / "policy"), config)
    batch = random_batch(0)
    row, column = np.argwhere(batch.loss_mask)[5]
    logprobs = batch.behaviour_logprobs.copy()
    logprobs[row, column] = wrong
    with pytest.raises(LearnerError, match=r"1 of \d+ log probabilities of the engine in step 0") as caught:
        learner.update(replace(batch, behaviour_logprobs=logprobs))
    assert "learning_rate" not in str(caught.value)
    logprobs = np.where(batch.loss_mask, batch.behaviour_logprobs, wrong).astype(np.float32)
    # Values outside the mask are never used.
    assert math.isfinite(learner.update(replace(batch, behaviour_logprobs=logprobs)).metrics["loss"])
