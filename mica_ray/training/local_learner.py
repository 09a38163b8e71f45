"""The learner in this process, with torch's AdamW. The update is in update.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mica_ray.lora.layers import base_model, merged_parameters
from mica_ray.rollout.weights import pack_weights, publish
from mica_ray.training.learner_state import LearnerState
from mica_ray.training.optimizer import adamw, load_reference
from mica_ray.training.policy_folder import (
    fingerprint,
    layout,
    load_policy,
    read_policy_tensors,
    trained_parameters,
    write_policy,
)
from mica_ray.training.stepper import OneRank
from mica_ray.training.update import LearnerConfig, batch_shares, run_update
from mica_ray.types import PolicyWeights, TokenBatch, UpdateReport

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class LocalStepper:
    """`Stepper` over a torch module and AdamW in fp32.

    In bf16 the optimizer has fp32 master weights and the module a rounded copy.
    """

    def __init__(self, policy: Path, config: LearnerConfig, *, device: torch.device | None = None) -> None:
        """Load the policy and build the optimizer.

        Args:
            policy: model folder in Hugging Face form.
            config: optimizer, schedule and loss.
            device: of the policy; None leaves it where it was loaded, on the CPU.

        Raises:
            LearnerError: the folder contains no causal language model.
        """
        import torch

        self.model: PreTrainedModel = load_policy(
            policy,
            dtype=config.dtype,
            gradient_checkpointing=config.gradient_checkpointing,
            lora=config.lora,
        )
        self._reference = load_reference(policy, config)
        if device is not None:
            for module in filter(None, (self.model, self._reference)):
                torch.nn.Module.to(module, device)
        self._clip, self._lora = config.grad_clip, config.lora
        self._parameters = [parameter for _, parameter in trained_parameters(self.model, config.lora)]
        self._masters = self._parameters
        if config.dtype != "float32":
            self._masters = [torch.nn.Parameter(parameter.detach().float()) for parameter in self._parameters]
            for master, parameter in zip(self._masters, self._parameters, strict=True):
                parameter.register_post_accumulate_grad_hook(_adder_to(master))
        self.optimizer = adamw(self._masters, config)

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self._parameters[0].device

    def logprobs(self, token_ids: torch.Tensor, mask: torch.Tensor, temperature: float) -> torch.Tensor:
        """Run the policy."""
        return self.model(token_ids, mask, temperature)

    def reference_logprobs(
        self, token_ids: torch.Tensor, mask: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        """Run the frozen initial policy."""
        if self._lora is not None:
            with base_model(self.model):
                return self.model(token_ids, mask, temperature)
        assert self._reference is not None, "the loss has no KL term"
        return self._reference(token_ids, mask, temperature)

    def backward(self, loss: torch.Tensor, *, is_last: bool) -> None:
        """Add the gradient of `loss` to the gradient of the master weights, in fp32.

        In bf16 the gradient of a parameter is added as soon as it is complete, and freed.
        """
        loss.backward()

    def step(self, learning_rate: float) -> float:
        """Clip, update the masters and round them into the module; return the norm before clipping."""
        import torch

        norm = torch.nn.utils.clip_grad_norm_(self._masters, self._clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._round_masters()
        return float(norm)

    def whole_model(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield all parameters by checkpoint name, tied ones once, an adapter merged into its layers."""
        if self._lora is not None:
            return merged_parameters(self.model)
        return ((name, parameter.detach()) for name, parameter in self.model.named_parameters())

    def trained(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the trained parameters by checkpoint name."""
        named = trained_parameters(self.model, self._lora)
        return ((name, parameter.detach()) for name, parameter in named)

    def fingerprint(self) -> str:
        """Return the fingerprint of the model, its adapter included."""
        return fingerprint(layout(self.model, self._lora))

    def run_state(self) -> dict[str, object]:
        """Return what a restore needs besides the weights: AdamW's moments, bf16's masters."""
        masters = [] if self._masters is self._parameters else [master.detach() for master in self._masters]
        return {"optimizer": self.optimizer.state_dict(), "masters": masters}

    def load_run_state(self, state: Mapping[str, object], tensors: Mapping[str, torch.Tensor]) -> None:
        """Restore the weights and a `run_state`."""
        import torch

        with torch.no_grad():
            for name, parameter in trained_parameters(self.model, self._lora):
                parameter.copy_(tensors[name])
            if self._masters is not self._parameters:
                for master, saved in zip(self._masters, state["masters"], strict=True):  # type: ignore[arg-type]
                    master.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])  # type: ignore[arg-type]

    def _round_masters(self) -> None:
        """Copy the masters into the module, rounded to its type; in fp32 both are the same."""
        import torch

        if self._masters is self._parameters:
            return
        with torch.no_grad():
            for master, parameter in zip(self._masters, self._parameters, strict=True):
                parameter.copy_(master)


def _adder_to(master: torch.nn.Parameter) -> Callable[[torch.Tensor], None]:
    """Return a hook that moves the gradient of a parameter to its master."""

    def move(parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        master.grad = parameter.grad.float() if master.grad is None else master.grad.add_(parameter.grad)
        parameter.grad = None

    return move


class LocalLearner:
    """`Learner` in this process. Consumes token batches, produces weights."""

    def __init__(self, policy: Path, config: LearnerConfig) -> None:
        """Load the policy at version 0.

        Args:
            policy: model folder in Hugging Face form.
            config: optimizer, schedule and loss.

        Raises:
            LearnerError: the folder contains no causal language model.
        """
        self._policy, self._config = policy, config
        self._stepper = LocalStepper(policy, config)
        self._version = 0
        self._updates = 0

    def update(self, batch: TokenBatch) -> UpdateReport:
        """Make every optimizer step of a batch and raise the version by one.

        Raises:
            LearnerError: a loss or a gradient norm is not finite.
        """
        (share,) = batch_shares(batch, self._config, world_size=1)
        outcome = run_update(
            self._stepper, share, config=self._config, first_update=self._updates, ranks=OneRank()
        )
        self._updates += outcome.num_updates
        self._version += 1
        return UpdateReport(version=self._version, metrics=outcome.metrics)

    def weights(self) -> PolicyWeights:
        """Pack the current weights for the engines, or the adapter."""
        lora, stepper = self._config.lora, self._stepper
        if lora is not None and lora.push == "adapter":
            return publish(pack_weights(stepper.trained(), lora_scale=lora.scale), self._version)
        return publish(pack_weights(stepper.whole_model()), self._version)

    def save(self, directory: Path, *, copied: Callable[[], object] | None = None) -> None:
        """Write `policy/` (a model folder or an adapter), `optimizer.pt` and `learner.json`, uncopied."""
        import torch

        write_policy(
            directory / "policy",
            self._stepper.model,
            tensors=dict(self._stepper.trained()),
            tokenizer_from=self._policy,
            lora=self._config.lora,
        )
        torch.save(self._stepper.run_state(), directory / "optimizer.pt")
        LearnerState(
            kind="local",
            version=self._version,
            updates=self._updates,
            model=self._stepper.fingerprint(),
            dtype=self._config.dtype,
        ).write(directory)

    def committed(self, directory: Path) -> None:
        """Do nothing: this learner is never restarted."""

    def restore(self, directory: Path) -> None:
        """Continue from what `save` wrote, bit for bit.

        Raises:
            LearnerError: the folder has another model, or was written by another kind of learner.
        """
        import torch

        state = LearnerState.read(directory)
        state.check(directory, kind="local", model=self._stepper.fingerprint(), dtype=self._config.dtype)
        run_state = torch.load(directory / "optimizer.pt", weights_only=True)
        tensors = read_policy_tensors(directory / "policy", policy=self._policy, lora=self._config.lora)
        self._stepper.load_run_state(run_state, tensors)
        self._version, self._updates = state.version, state.updates

    def close(self) -> None:
        """Do nothing: there are no resources outside this object."""
