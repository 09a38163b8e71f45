"""The policy loss by hand, and its exactness across micro-batches."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mica_ray.losses import LossConfig, LossTerms, policy_loss


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def loss_of(
    new: list[float],
    advantage: list[float],
    config: LossConfig,
    *,
    old: list[float] | None = None,
    behaviour: list[float] | None = None,
    reference: list[float] | None = None,
    turns: list[int] | None = None,
) -> tuple[LossTerms, Tensor]:
    """Loss of one row in which every token is trained, and the log probabilities it depends on."""
    logprobs = torch.tensor([new], requires_grad=True)
    frozen = torch.tensor([old if old is not None else new])
    turn_ids = torch.tensor([turns if turns is not None else [0] * len(new)])
    terms = policy_loss(
        logprobs,
        frozen,
        behaviour_logprobs=frozen if behaviour is None else torch.tensor([behaviour]),
        advantages=torch.tensor([advantage]),
        mask=torch.ones(1, len(new), dtype=torch.bool),
        turn_ids=turn_ids,
        config=config,
        loss_tokens=len(new),
        loss_turns=int(turn_ids.unique().numel()),
        reference_logprobs=None if reference is None else torch.tensor([reference]),
    )
    return terms, logprobs


def test_on_policy_gradient_is_minus_the_advantage_over_the_tokens() -> None:
    # Ratio 1: d loss / d logprob = -A / 2 for two tokens, for PPO and REINFORCE alike.
    for kind in ("ppo", "reinforce"):
        terms, logprobs = loss_of([-1.0, -2.0], [3.0, -1.0], LossConfig(kind=kind))
        terms.loss.backward()
        torch.testing.assert_close(logprobs.grad, torch.tensor([[-1.5, 0.5]]))


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "clipped", "cut"),
    [
        (1.1, 1.0, -1.1, 0, 0),  # inside the trust region
        (2.0, 1.0, -1.28, 1, 0),  # praise stops paying at 1 + 0.28
        (0.5, 1.0, -0.5, 0, 0),  # praise of a token that became rarer is never clipped
        (0.5, -1.0, 0.8, 1, 0),  # blame stops paying at 1 - 0.2
        (2.0, -1.0, 2.0, 0, 0),  # blame of a token that became likelier is not clipped at 1.28
        (50.0, -1.0, 10.0, 0, 1),  # but the dual clip stops it at c = 10
    ],
)
def test_clipping_by_hand(ratio: float, advantage: float, expected: float, clipped: int, cut: int) -> None:
    terms, logprobs = loss_of([math.log(ratio)], [advantage], LossConfig(), old=[0.0])
    assert terms.loss.item() == pytest.approx(expected, rel=1e-5)
    assert (int(terms.metrics["clipped"]), int(terms.metrics["dual_clipped"])) == (clipped, cut)
    terms.loss.backward()
    # The gradient is 0 for a clipped token and -A ratio for another one.
    slope = 0.0 if clipped or cut else -advantage * ratio
    assert logprobs.grad is not None
    assert float(logprobs.grad) == pytest.approx(slope, rel=1e-5)


def test_reinforce_loss_is_minus_the_advantage_times_the_log_probability() -> None:
    # -(3 x -1) and -(-1 x -2): mean of 3 and -2. The old log probabilities enter only the reported ratio.
    terms, _ = loss_of([-1.0, -2.0], [3.0, -1.0], LossConfig(kind="reinforce"), old=[-2.0, -2.0])
    assert terms.loss.item() == 0.5
    reported = {name: float(value) for name, value in terms.metrics.items()}
    assert reported == pytest.approx(
        {
            "tokens": 2.0,
            "clipped": 0.0,
            "dual_clipped": 0.0,
            "importance_capped": 0.0,
            "ratio": math.e + 1,
            "ratio_squared": math.e**2 + 1,
            "kl": 0.0,
            "mismatch": 0.0,
        }
    )


def test_metrics_count_tokens_and_sum_ratios() -> None:
    # Ratios 2 and 1/2; only the first is clipped (praise above 1.28).
    terms, _ = loss_of([math.log(2), math.log(0.5)], [1.0, 1.0], LossConfig(), old=[0.0, 0.0])
    reported = {name: float(value) for name, value in terms.metrics.items()}
    assert reported == pytest.approx(
        {
            "tokens": 2.0,
            "clipped": 1.0,
            "dual_clipped": 0.0,
            "importance_capped": 0.0,
            "ratio": 2.5,
            "ratio_squared": 4.25,
            "kl": 0.0,
            "mismatch": 0.0,
        }
    )


def test_dual_clip_scales_with_the_advantage_and_spares_praise() -> None:
    # A = -2: ratio 50 costs 10 x 2. A = 0.5: ratio 1.1 earns 0.55, and -c A = -5 is no ceiling.
    terms, _ = loss_of([math.log(50.0), math.log(1.1)], [-2.0, 0.5], LossConfig(), old=[0.0, 0.0])
    assert terms.loss.item() == pytest.approx((20.0 - 0.55) / 2, rel=1e-5)
    assert int(terms.metrics["dual_clipped"]) == 1


@pytest.mark.parametrize(("factor", "cut"), [(0.999, 0), (1.0, 0), (1.001, 1)])
def test_dual_clip_cuts_only_above_its_limit(factor: float, cut: int) -> None:
    limit = float(torch.tensor(math.log(4.0)).exp())  # the ratio as fp32 computes it
    config = LossConfig(dual_clip=limit)
    terms, logprobs = loss_of([math.log(4.0) + math.log(factor)], [-1.0], config, old=[0.0])
    assert int(terms.metrics["dual_clipped"]) == cut
    terms.loss.backward()
    assert logprobs.grad is not None
    assert bool(logprobs.grad) is not bool(cut)


def test_dual_clip_can_be_switched_off() -> None:
    terms, _ = loss_of([math.log(50.0)], [-1.0], LossConfig(dual_clip=None), old=[0.0])
    assert terms.loss.item() == pytest.approx(50.0, rel=1e-5)


def test_token_mean_and_turn_mean_weigh_long_turns_differently() -> None:
    # Ratio 1, losses -1, -1, -1 (turn 4) and +1 (turn 7): token mean -1/2, turn mean (-1 + 1) / 2 = 0.
    advantage, turns = [1.0, 1.0, 1.0, -1.0], [4, 4, 4, 7]
    by_token, _ = loss_of([0.0] * 4, advantage, LossConfig(), turns=turns)
    by_turn, _ = loss_of([0.0] * 4, advantage, LossConfig(aggregation="turn_mean"), turns=turns)
    assert (by_token.loss.item(), by_turn.loss.item()) == (-0.5, 0.0)


def test_importance_weight_is_truncated_and_has_no_gradient() -> None:
    # Engine and learner differ: exp(old - behaviour) = 1/2, 1 and 4; capped at 2: weights 1/2, 1 and 2.
    terms, logprobs = loss_of(
        [0.0, 0.0, 0.0],
        [3.0, 3.0, 3.0],
        LossConfig(importance_cap=2.0),
        behaviour=[math.log(2.0), 0.0, math.log(0.25)],
    )
    terms.loss.backward()
    torch.testing.assert_close(logprobs.grad, torch.tensor([[-0.5, -1.0, -2.0]]))
    assert int(terms.metrics["importance_capped"]) == 1
    assert float(terms.metrics["mismatch"]) == pytest.approx(math.log(2.0) + math.log(4.0))


def test_weight_that_equals_the_cap_is_not_counted_as_capped() -> None:
    # Weights exp(-0.5), exp(0) and exp(0.5) with cap 1.
    terms, _ = loss_of([0.0] * 3, [1.0] * 3, LossConfig(importance_cap=1.0), behaviour=[0.5, 0.0, -0.5])
    assert int(terms.metrics["importance_capped"]) == 1
    assert terms.loss.item() == pytest.approx(-(math.exp(-0.5) + 2) / 3)


@pytest.mark.parametrize(
    ("estimator", "value", "slope"),
    # d = log 2: k1 = d with the gradient of k2; k2 = d^2 / 2, gradient d; k3 = 1/2 - 1 + d, gradient 1/2.
    [
        ("k1", math.log(2), math.log(2)),
        ("k2", math.log(2) ** 2 / 2, math.log(2)),
        ("k3", math.log(2) - 0.5, 0.5),
    ],
)
def test_kl_penalty_by_hand(estimator: str, value: float, slope: float) -> None:
    config = LossConfig(kl_coefficient=0.1, kl_estimator=estimator)  # pyright: ignore[reportArgumentType]
    terms, logprobs = loss_of([math.log(2.0)], [0.0], config, reference=[0.0])
    assert terms.loss.item() == pytest.approx(0.1 * value, rel=1e-5)
    assert float(terms.metrics["kl"]) == pytest.approx(value, rel=1e-5)
    terms.loss.backward()
    assert logprobs.grad is not None
    assert float(logprobs.grad) == pytest.approx(0.1 * slope, rel=1e-5)


@pytest.mark.parametrize(
    ("estimator", "value"),
    # d = -1 - (-3) = 2: k1 = 2, k2 = 2, k3 = exp(-2) - 1 + 2.
    [("k1", 2.0), ("k2", 2.0), ("k3", math.exp(-2.0) + 1.0)],
)
def test_kl_is_measured_from_the_reference(estimator: str, value: float) -> None:
    config = LossConfig(kl_estimator=estimator)  # pyright: ignore[reportArgumentType]
    terms, _ = loss_of([-1.0], [0.0], config, reference=[-3.0])
    assert float(terms.metrics["kl"]) == pytest.approx(value, rel=1e-5)


def test_k3_is_cut_at_twenty_nats() -> None:
    terms, _ = loss_of([-31.0], [0.0], LossConfig(kl_estimator="k3"), reference=[-1.0])
    assert float(terms.metrics["kl"]) == pytest.approx(math.exp(20.0) - 31.0, rel=1e-5)


def test_reference_that_is_only_measured_cannot_change_the_loss() -> None:
    # A token that the reference never samples has an infinite KL; 0 times infinity would be NaN.
    terms, _ = loss_of([-1.0], [1.0], LossConfig(), reference=[-math.inf])
    assert terms.loss.item() == -1.0


def test_kl_penalty_needs_a_reference() -> None:
    with pytest.raises(ValueError, match="needs reference_logprobs"):
        loss_of([0.0], [1.0], LossConfig(kl_coefficient=0.1))


@pytest.mark.parametrize("aggregation", ["token_mean", "turn_mean"])
@pytest.mark.parametrize("kind", ["ppo", "reinforce"])
def test_micro_batches_add_up_to_the_whole(aggregation: str, kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    new = torch.randn(5, 7, generator=generator, requires_grad=True)
    old, behaviour, reference, advantages = (torch.randn(5, 7, generator=generator) for _ in range(4))
    # Row r holds turns 2r and 2r + 1 of unequal length; the last row has no trained token at all.
    lengths = torch.tensor([[1, 2], [3, 3], [2, 1], [4, 2], [0, 0]])
    columns = torch.arange(7).expand(5, 7)
    second = (columns > lengths[:, :1]) & (columns <= lengths.sum(1, keepdim=True))
    mask = ((columns >= 1) & (columns <= lengths[:, :1])) | second
    turn_ids = torch.where(mask, 2 * torch.arange(5)[:, None] + second.long(), -1)
    config = LossConfig(
        kind=kind,  # pyright: ignore[reportArgumentType]
        aggregation=aggregation,  # pyright: ignore[reportArgumentType]
        kl_coefficient=0.1,
        importance_cap=2.0,
    )

    def share(rows: slice) -> LossTerms:
        return policy_loss(
            new[rows],
            old[rows],
            behaviour_logprobs=behaviour[rows],
            advantages=advantages[rows],
            mask=mask[rows],
            turn_ids=turn_ids[rows],
            config=config,
            loss_tokens=int(mask.sum()),
            loss_turns=8,
            reference_logprobs=reference[rows],
        )

    whole = share(slice(None))
    (expected,) = torch.autograd.grad(whole.loss, new)
    shares = [share(slice(0, 2)), share(slice(2, 3)), share(slice(3, 4)), share(slice(4, 5))]
    (total,) = torch.autograd.grad(torch.stack([part.loss for part in shares]).sum(), new)
    # 1e-6: the same sums in another order, fp32.
    torch.testing.assert_close(sum(part.loss for part in shares), whole.loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(total, expected, rtol=1e-6, atol=1e-7)
    for name, value in whole.metrics.items():
        torch.testing.assert_close(sum(part.metrics[name] for part in shares), value, rtol=1e-5, atol=1e-5)


def test_masked_tokens_may_hold_anything() -> None:
    new = torch.tensor([[0.0, float("nan"), -1.0]], requires_grad=True)
    junk = torch.tensor([[0.0, float("inf"), -1.0]])
    mask = torch.tensor([[False, False, True]])
    terms = policy_loss(
        new,
        junk,
        behaviour_logprobs=junk,
        advantages=junk,
        mask=mask,
        turn_ids=torch.tensor([[-1, -1, 0]]),
        config=LossConfig(),
        loss_tokens=1,
        loss_turns=1,
    )
    terms.loss.backward()
    assert terms.loss.item() == 1.0  # ratio 1, advantage -1
    torch.testing.assert_close(new.grad, torch.tensor([[0.0, 0.0, 1.0]]))


def test_row_without_trained_tokens_gives_zero_loss_and_zero_gradient() -> None:
    new = torch.randn(1, 2, requires_grad=True)
    zeros = torch.zeros(1, 2)
    for aggregation in ("token_mean", "turn_mean"):
        terms = policy_loss(
            new,
            zeros,
            behaviour_logprobs=zeros,
            advantages=zeros,
            mask=zeros.bool(),
            turn_ids=zeros.long() - 1,
            config=LossConfig(aggregation=aggregation),
            loss_tokens=9,
            loss_turns=3,
        )
        (gradient,) = torch.autograd.grad(terms.loss, new)
        assert terms.loss.item() == 0.0
        assert not gradient.any()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "grpo"),
        ("clip_low", 1.0),
        ("clip_high", -0.1),
        ("dual_clip", 1.0),
        ("kl_coefficient", -1.0),
        ("kl_estimator", "k4"),
        ("importance_cap", 0.0),
        ("aggregation", "mean"),
    ],
)
def test_impossible_loss_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{field} must be .*, got .*{value}"):
        LossConfig(**{field: value})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("clip_low", 0.0),
        ("clip_low", 0.999),
        ("clip_high", 0.0),
        ("dual_clip", 1.001),
        ("importance_cap", 0.001),
        ("kl_coefficient", 0.0),
    ],
)
def test_value_at_the_edge_of_its_range_is_accepted(field: str, value: float) -> None:
    assert getattr(LossConfig(**{field: value}), field) == value  # pyright: ignore[reportArgumentType]


def test_log_ratio_is_cut_at_twenty_nats() -> None:
    # A token that became exp(-30) times as likely keeps the ratio exp(-20).
    terms, _ = loss_of([-30.0], [1.0], LossConfig(), old=[0.0])
    assert terms.loss.item() == pytest.approx(-math.exp(-20.0), rel=1e-5)
    # The token became exp(30) times as likely: blame of -1 without a dual clip costs exp(20), not exp(30).
    terms, _ = loss_of([30.0], [-1.0], LossConfig(dual_clip=None), old=[0.0])
    assert terms.loss.item() == pytest.approx(math.exp(20.0), rel=1e-5)
