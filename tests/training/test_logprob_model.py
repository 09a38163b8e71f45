"""Models of several architectures return the log probabilities that their logits have."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

from mica_ray.training.learner import LearnerError
from mica_ray.training.logprob_model import return_logprobs

SMALL: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
    # Large weights, so that a missing scale or cap is far outside the tolerance.
    "initializer_range": 0.5,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "tied head": ("Qwen3", {"tie_word_embeddings": True}),
    "untied head": ("Qwen3", {"tie_word_embeddings": False}),
    "softcap": ("Gemma2", {"final_logit_softcapping": 2.0, "attn_logit_softcapping": None}),
    "divided logits": ("Granite", {"logits_scaling": 8.0}),
    "multiplied logits": ("Cohere", {"logit_scale": 0.0625}),
    "bias of the head": ("Phi", {}),
    "learned positions": ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "llama": ("Llama", {}),
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def small_model(name: str) -> PreTrainedModel:
    family, settings = FAMILIES[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**(SMALL | settings))
    model = AutoModelForCausalLM.from_config(config).eval()
    bias = getattr(model.get_output_embeddings(), "bias", None)
    if bias is not None:
        torch.nn.init.normal_(bias)
    return cast(PreTrainedModel, model)


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(3, 97, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(3, 9, dtype=torch.bool)
    mask[0, 3:6] = mask[1, 1] = mask[1, 8] = True  # nothing is trained in row 2
    return ids, mask


@pytest.mark.parametrize("name", FAMILIES)
def test_values_and_gradients_are_those_of_the_logits(name: str) -> None:
    plain, chunked = small_model(name), small_model(name)
    return_logprobs(chunked)
    ids, mask = rows()
    scores = plain(input_ids=ids, use_cache=False).logits[:, :-1] / 0.8
    chosen = torch.log_softmax(scores, dim=-1).gather(-1, ids[:, 1:, None])[..., 0]
    expected = torch.nn.functional.pad(chosen, (1, 0)) * mask
    found = chunked(ids, mask, 0.8)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    upstream = torch.linspace(-1, 1, 27).reshape(3, 9)
    (expected * upstream).sum().backward()
    (found * upstream).sum().backward()
    names = dict(plain.named_parameters())
    assert names.keys() == dict(chunked.named_parameters()).keys()
    for key, parameter in chunked.named_parameters():
        assert parameter.grad is not None, key
        exact = names[key].grad
        assert exact is not None, key
        difference = (parameter.grad - exact).norm() / (exact.norm() + 1e-6)
        assert float(difference) < 1e-4, key  # fp32 sums in another order


def test_no_trained_token_still_reaches_every_parameter() -> None:
    # Ranks must make the same collective calls, also the one whose micro-batch is only padding.
    model = small_model("tied head")
    return_logprobs(model)
    ids, mask = rows()
    model(ids, torch.zeros_like(mask), 1.0).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().max()) == 0.0, name


def test_column_zero_has_no_log_probability() -> None:
    model = small_model("llama")
    return_logprobs(model)
    ids, mask = rows()
    with_first = mask.clone()
    with_first[:, 0] = True
    torch.testing.assert_close(model(ids, with_first, 1.0), model(ids, mask, 1.0))


def test_bfloat16_model_stays_near_its_logits() -> None:
    model: Any = small_model("softcap").bfloat16()
    ids, mask = rows()
    exact = torch.log_softmax(model(input_ids=ids).logits[:, :-1].float(), dim=-1)
    expected = exact.gather(-1, ids[:, 1:, None])[..., 0] * mask[:, 1:]
    return_logprobs(model)
    found = model(ids, mask, 1.0)
    assert found.dtype == torch.float32
    # bfloat16 has 8 bits: logits up to 2 are off by 2^-8.
    torch.testing.assert_close(found[:, 1:], expected, rtol=0, atol=0.03)


class SquaredLogits(transformers.LlamaForCausalLM):
    """A model that changes its logits in a way of its own."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output: Any = super().forward(*args, **kwargs)
        output.logits = output.logits.square()
        return output


def test_unknown_change_of_the_logits_is_refused_and_undone() -> None:
    torch.manual_seed(0)
    model = SquaredLogits(transformers.LlamaConfig(**SMALL)).eval()
    ids, _ = rows()
    before = model(input_ids=ids).logits
    with pytest.raises(LearnerError, match="SquaredLogits changes its logits"):
        return_logprobs(model)
    torch.testing.assert_close(model(input_ids=ids).logits, before)


def test_model_without_a_linear_head_is_refused() -> None:
    torch.manual_seed(0)
    body = cast(PreTrainedModel, transformers.LlamaModel(transformers.LlamaConfig(**SMALL)))
    with pytest.raises(LearnerError, match="no linear head"):
        return_logprobs(body)
