"""Makes a causal language model return log probabilities of trained tokens instead of logits.

The head's mathematics is in mica_ray/head_logprobs.py; the learners call the model through `Stepper`.
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

from mica_ray.head_logprobs import ScoreTransform, head_logprobs
from mica_ray.training.learner import LearnerError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Two functions of the same numbers in another order; a missing scale or softcap is off by far more.
_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}


def return_logprobs(model: PreTrainedModel) -> None:
    """Replace the model's forward: it then takes token ids and a mask, and returns log probabilities.

        model(token_ids [R, L], mask [R, L], temperature) -> [R, L] float32, nats; 0 outside the mask

    The head runs only on columns that predict a token of the mask. Modules, parameter names and hooks stay
    as they are, so that DeepSpeed and PEFT see the same model. The model is compared with its old forward on
    two tokens: an architecture that changes its logits in another way is rejected, not trained wrongly.

    Raises:
        LearnerError: the model has no separate body and head, or does not agree with its old forward.
    """
    import torch

    head, body = model.get_output_embeddings(), model.base_model
    if not isinstance(head, torch.nn.Linear) or body is model:
        raise LearnerError(
            f"{type(model).__name__} has no linear head after its body, so its log probabilities cannot be "
            "computed in chunks. Use a causal language model of transformers."
        )
    transform, forward = _transform(model), model.forward

    def head_forward(
        self: torch.nn.Linear, hidden: torch.Tensor, token_ids: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        return head_logprobs(
            hidden, self.weight, token_ids, bias=self.bias, transform=transform, temperature=temperature
        )

    def model_forward(
        self: PreTrainedModel, token_ids: torch.Tensor, mask: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        # Rows are right-padded and attention is causal, so no attention mask is needed.
        hidden = self.base_model(input_ids=token_ids, use_cache=False).last_hidden_state
        is_next = mask[:, 1:]
        logprobs: torch.Tensor = head(hidden[:, :-1][is_next], token_ids[:, 1:][is_next], temperature)
        rows = torch.zeros(is_next.shape, dtype=logprobs.dtype, device=logprobs.device)
        return torch.nn.functional.pad(rows.masked_scatter(is_next, logprobs), (1, 0))

    expected = _first_logprob(model)
    head.forward = MethodType(head_forward, head)
    model.forward = MethodType(model_forward, model)
    ids, mask = _two_tokens(model)
    with torch.no_grad():
        found = float(model(ids, mask, 1.0)[0, 1])
    limit = _TOLERANCE.get(str(model.dtype).removeprefix("torch."), 0.1)
    if not abs(found - expected) <= limit:
        head.forward = MethodType(torch.nn.Linear.forward, head)
        model.forward = forward
        raise LearnerError(
            f"{type(model).__name__} changes its logits after the head: a log probability is {expected:.4f}, "
            f"and {found:.4f} from head, scale and softcap. Use another architecture, or report this one."
        )


def _transform(model: PreTrainedModel) -> ScoreTransform:
    """Read scale and softcap of the logits from the model's config."""
    config: Any = model.config.get_text_config()
    # Cohere multiplies by logit_scale, Granite divides by logits_scaling.
    scale = getattr(config, "logit_scale", None) or 1.0 / (getattr(config, "logits_scaling", None) or 1.0)
    return ScoreTransform(scale=float(scale), softcap=getattr(config, "final_logit_softcapping", None))


def _two_tokens(model: PreTrainedModel) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    # Not the first ones: the embedding of a padding token is 0, and so would be all logits.
    size, device = int(model.config.get_text_config().vocab_size), model.device
    return torch.tensor([[size // 2, size // 3]], device=device), torch.tensor([[False, True]], device=device)


def _first_logprob(model: PreTrainedModel) -> float:
    """Return the log probability of the second of two tokens from the logits of one column."""
    import torch

    ids, _ = _two_tokens(model)
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0, 0].float()
    return float(logits[ids[0, 1]] - torch.logsumexp(logits, dim=-1))
