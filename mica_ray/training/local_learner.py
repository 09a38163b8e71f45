"""The learner inside this process: plain torch AdamW. Neighbours: update.py (the step), ray_learner.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mica_ray.rollout.weights import pack_weights, publish
from mica_ray.training.learner_state import LearnerState
from mica_ray.training.optimizer import adamw, load_reference
from mica_ray.training.policy_folder import fingerprint, load_policy, read_policy_tensors, write_policy
from mica_ray.training.stepper import OneRank
from mica_ray.training.update import LearnerConfig, run_update
from mica_ray.types import PolicyWeights, TokenBatch, UpdateReport

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class LocalStepper:
    """A torch module under AdamW in fp32.

    In bf16 the optimiser holds fp32 masters and the module a rounded copy.
    """

    def __init__(self, policy: Path, config: LearnerConfig) -> None:
        """Load the policy and lay out the optimiser.

        Raises:
            LearnerError: the folder holds no causal language model.
        """
        import torch

        self.model: PreTrainedModel = load_policy(
            policy, dtype=config.dtype, gradient_checkpointing=config.gradient_checkpointing
        )
        self._reference = load_reference(policy, config)
        self._clip = config.grad_clip
        self._parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._masters = (
            self._parameters
            if config.dtype == "float32"
            else [torch.nn.Parameter(parameter.detach().float()) for parameter in self._parameters]
        )
        self.optimizer = adamw(self._masters, config)

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return self._parameters[0].device

    def logits(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Run the policy [R, L] -> [R, L, V].

        Rows are right-padded and attention is causal, so no mask is needed.
        """
        return self.model(input_ids=token_ids, use_cache=False).logits

    def reference_logits(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Run the frozen initial policy."""
        assert self._reference is not None, "the loss has no KL term"
        return self._reference(input_ids=token_ids, use_cache=False).logits

    def backward(self, loss: torch.Tensor, *, is_last: bool) -> None:
        """Add the gradient of `loss` to the masters', in fp32 whatever the passes run in."""
        loss.backward()
        if self._masters is self._parameters:
            return
        for master, parameter in zip(self._masters, self._parameters, strict=True):
            if parameter.grad is None:
                continue
            gradient = parameter.grad.float()
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            parameter.grad = None

    def step(self, learning_rate: float) -> float:
        """Clip by the global norm, move the masters, round them into the module."""
        import torch

        norm = torch.nn.utils.clip_grad_norm_(self._masters, self._clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._round_masters()
        return float(norm)

    def named_parameters(self) -> Iterable[tuple[str, torch.Tensor]]:
        """Give the parameters under their checkpoint names, tied ones once."""
        return ((name, parameter.detach()) for name, parameter in self.model.named_parameters())

    def run_state(self) -> dict[str, object]:
        """Give what AdamW needs to go on: its moments and, in bf16, the masters."""
        masters = [] if self._masters is self._parameters else [master.detach() for master in self._masters]
        return {"optimizer": self.optimizer.state_dict(), "masters": masters}

    def load_run_state(self, state: Mapping[str, object], tensors: Mapping[str, torch.Tensor]) -> None:
        """Put back the weights and what `run_state` gave."""
        import torch

        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(tensors[name])
            if self._masters is not self._parameters:
                for master, saved in zip(self._masters, state["masters"], strict=True):  # type: ignore[arg-type]
                    master.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])  # type: ignore[arg-type]

    def _round_masters(self) -> None:
        """Copy the masters into the module, rounding to its type; nothing to do where they are the same."""
        import torch

        if self._masters is self._parameters:
            return
        with torch.no_grad():
            for master, parameter in zip(self._masters, self._parameters, strict=True):
                parameter.copy_(master)


class LocalLearner:
    """`Learner` in this process. Consumes token batches, produces weights; waits for nothing."""

    def __init__(self, policy: Path, config: LearnerConfig) -> None:
        """Load the policy at version 0.

        Args:
            policy: model folder in Hugging Face form.
            config: how the weights move.

        Raises:
            LearnerError: the folder holds no causal language model.
        """
        self._policy, self._config = policy, config
        self._stepper = LocalStepper(policy, config)
        self._version = 0
        self._updates = 0

    def update(self, batch: TokenBatch) -> UpdateReport:
        """Make every optimiser step this batch asks for and raise the version by one.

        Raises:
            LearnerError: a loss or a gradient norm is not finite.
        """
        outcome = run_update(
            self._stepper, batch, config=self._config, first_update=self._updates, ranks=OneRank()
        )
        self._updates += outcome.num_updates
        self._version += 1
        return UpdateReport(version=self._version, metrics=outcome.metrics)

    def weights(self) -> PolicyWeights:
        """Pack the current weights for the engines."""
        return publish(pack_weights(self._stepper.named_parameters()), self._version)

    def save(self, directory: Path) -> None:
        """Write `policy/` (a model folder), `optimizer.pt` and `learner.json`."""
        import torch

        tensors = dict(self._stepper.named_parameters())
        write_policy(directory / "policy", self._stepper.model, tensors=tensors, tokenizer_from=self._policy)
        torch.save(self._stepper.run_state(), directory / "optimizer.pt")
        LearnerState(
            kind="local",
            version=self._version,
            updates=self._updates,
            model=self._fingerprint(),
            dtype=self._config.dtype,
        ).write(directory)

    def restore(self, directory: Path) -> None:
        """Continue from what `save` wrote, bit for bit.

        Raises:
            LearnerError: the folder holds another model, or was written by another kind of learner.
        """
        import torch

        state = LearnerState.read(directory)
        state.check(directory, kind="local", model=self._fingerprint(), dtype=self._config.dtype)
        run_state = torch.load(directory / "optimizer.pt", weights_only=True)
        self._stepper.load_run_state(run_state, read_policy_tensors(directory / "policy"))
        self._version, self._updates = state.version, state.updates

    def close(self) -> None:
        """Nothing is held outside this object."""

    def _fingerprint(self) -> str:
        return fingerprint((name, tuple(value.shape)) for name, value in self._stepper.named_parameters())
