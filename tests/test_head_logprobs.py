"""Log probabilities from hidden states: by hand, against whole logits, and how much exists at once."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mica_ray.head_logprobs import ScoreTransform, head_logprobs

TRANSFORMS = [
    None,
    ScoreTransform(scale=0.25),
    ScoreTransform(softcap=3.0),
    ScoreTransform(scale=0.5, softcap=2.0),
]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def drawn(*, tokens: int = 7, vocabulary: int = 23, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(vocabulary, 5, generator=generator, dtype=torch.float64)
    bias = torch.randn(vocabulary, generator=generator, dtype=torch.float64)
    return hidden, weight, bias, torch.randint(vocabulary, (tokens,), generator=generator)


def whole(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, ids: Tensor, transform: ScoreTransform, heat: float
) -> Tensor:
    """The formula with all logits, and autograd for its gradient."""
    scores = torch.nn.functional.linear(hidden, weight, bias) * transform.scale
    if transform.softcap is not None:
        scores = transform.softcap * torch.tanh(scores / transform.softcap)
    return torch.log_softmax(scores / heat, dim=-1).gather(1, ids[:, None])[:, 0]


def leaves(values: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    return [value.to(dtype).detach().requires_grad_() for value in values]


def test_probability_by_hand() -> None:
    # Products 1 x (0, 1, 2): p(2) = e^2 / (1 + e + e^2).
    weight = torch.tensor([[0.0], [1.0], [2.0]])
    found = head_logprobs(torch.tensor([[1.0]]), weight, torch.tensor([2]))
    assert float(found) == pytest.approx(2 - math.log(1 + math.e + math.e**2))


@pytest.mark.parametrize(
    ("temperature", "expected"), [(0.5, 9 / 10), (1.0, 3 / 4), (2.0, 3**0.5 / (1 + 3**0.5))]
)
def test_temperature_is_a_power_of_the_odds(temperature: float, expected: float) -> None:
    # Odds 3 : 1 become 9 : 1 at 1/2, and sqrt 3 : 1 at 2.
    weight = torch.tensor([[math.log(3.0)], [0.0]])
    found = head_logprobs(torch.ones(1, 1), weight, torch.tensor([0]), temperature=temperature)
    assert float(found.exp()) == pytest.approx(expected)


def test_scale_and_softcap_by_hand() -> None:
    # Product 4, scale 1/2, cap 2: z = 2 tanh(1) against 0.
    weight = torch.tensor([[4.0], [0.0]])
    transform = ScoreTransform(scale=0.5, softcap=2.0)
    found = head_logprobs(torch.ones(1, 1), weight, torch.tensor([1]), transform=transform)
    assert float(found) == pytest.approx(-math.log(1 + math.exp(2 * math.tanh(1.0))))


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("chunk_scores", [1, 7, 21, 7 * 22, 7 * 23, 10_000])
def test_values_and_gradients_equal_the_whole_formula_for_every_chunk(
    transform: ScoreTransform | None, has_bias: bool, chunk_scores: int
) -> None:
    hidden, weight, bias, ids = drawn()
    upstream = torch.linspace(-1, 2, len(ids))
    own = leaves([hidden, weight, bias], torch.float32)
    plain = leaves([hidden, weight, bias], torch.float64)
    found = head_logprobs(
        own[0],
        own[1],
        ids,
        bias=own[2] if has_bias else None,
        transform=transform,
        temperature=0.7,
        chunk_scores=chunk_scores,
    )
    expected = whole(
        plain[0], plain[1], plain[2] if has_bias else None, ids, transform or ScoreTransform(), 0.7
    )
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    (found * upstream).sum().backward()
    (expected * upstream).sum().backward()
    for mine, exact in list(zip(own, plain, strict=True))[: 3 if has_bias else 2]:
        assert mine.grad is not None and exact.grad is not None
        # fp32 against fp64.
        torch.testing.assert_close(mine.grad.double(), exact.grad, rtol=1e-4, atol=1e-6)


def test_same_token_twice_adds_up() -> None:
    # Uniform over two tokens: d log p(0) / d z = (1/2, -1/2), from each of three equal rows.
    weight = torch.zeros(2, 1, requires_grad=True)
    head_logprobs(torch.ones(3, 1), weight, torch.tensor([0, 0, 0])).sum().backward()
    torch.testing.assert_close(weight.grad, torch.tensor([[1.5], [-1.5]]))


def test_frozen_head_passes_the_gradient_on() -> None:
    hidden, weight, _, ids = drawn()
    free = hidden.float().requires_grad_()
    head_logprobs(free, weight.float(), ids).sum().backward()
    assert free.grad is not None and float(free.grad.abs().sum()) > 0


def test_no_tokens_have_a_zero_gradient() -> None:
    _, weight, _, _ = drawn()
    hidden, head = torch.zeros(0, 5, requires_grad=True), weight.float().requires_grad_()
    found = head_logprobs(hidden, head, torch.zeros(0, dtype=torch.long))
    assert found.shape == (0,)
    found.sum().backward()
    assert head.grad is not None and float(head.grad.abs().max()) == 0.0


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_greedy_temperature_is_refused(temperature: float) -> None:
    hidden, weight, _, ids = drawn()
    with pytest.raises(ValueError, match="temperature must be > 0"):
        head_logprobs(hidden.float(), weight.float(), ids, temperature=temperature)


@pytest.mark.parametrize("wrong", [{"scale": 0.0}, {"scale": -1.0}, {"softcap": 0.0}])
def test_impossible_transform_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be > 0"):
        ScoreTransform(**wrong)


class LargestTensor(TorchDispatchMode):
    """Records the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = func(*args, **(kwargs or {}))
        for value in returned if isinstance(returned, tuple | list) else [returned]:
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.numel())
        return returned


def test_nothing_larger_than_a_chunk_or_the_weights_exists() -> None:
    # 200 tokens x 300 entries would be 60,000 scores; the weights have 1,500 numbers and a chunk 2,000.
    hidden, weight, _, ids = drawn(tokens=200, vocabulary=300)
    free, head = hidden.float().requires_grad_(), weight.float().requires_grad_()
    with LargestTensor() as largest:
        head_logprobs(free, head, ids, chunk_scores=2000).sum().backward()
    assert largest.elements == 2000
