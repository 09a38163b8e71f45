"""An adapter in the in-process learner: what is trained, pushed, saved and restored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mica_ray.lora.adapter import LoraError
from mica_ray.lora.config import LoraConfig
from mica_ray.lora.folder import read_adapter
from mica_ray.lora.layers import adapter_parameters, add_adapter
from mica_ray.lora.merge import write_merged
from mica_ray.losses import LossConfig
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.weights import resolve, unpack_weights
from mica_ray.training.learner import LearnerError
from mica_ray.training.local_learner import LocalLearner
from mica_ray.training.policy_folder import Dtype
from mica_ray.training.update import LearnerConfig
from tests.tiny_policy import random_batch, write_tiny_policy

CONFIG = LearnerConfig(
    learning_rate=1e-2,
    warmup_fraction=0.0,
    total_updates=20,
    micro_batch_tokens=48,
    mini_batches=2,
    lora=LoraConfig(rank=4, push="merged"),
    loss=LossConfig(kl_coefficient=0.1),
)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_tiny_policy(tmp_path_factory.mktemp("policy"))


def weights_of(learner: LocalLearner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in unpack_weights(*resolve(learner.weights()))}


def trained(policy: Path, config: LearnerConfig = CONFIG, updates: int = 2) -> LocalLearner:
    learner = LocalLearner(policy, config)
    for seed in range(updates):
        learner.update(random_batch(seed))
    return learner


def test_training_starts_from_the_base_model(policy: Path) -> None:
    plain = LocalLearner(policy, replace(CONFIG, lora=None))
    adapted = LocalLearner(policy, CONFIG)
    assert resolve(adapted.weights())[0].names == resolve(plain.weights())[0].names
    np.testing.assert_array_equal(resolve(adapted.weights())[0].data, resolve(plain.weights())[0].data)
    # The old log probabilities are those before the first optimizer step.
    found, expected = (learner.update(random_batch(0)).metrics for learner in (adapted, plain))
    for name in ("entropy", "logprob_difference_mean"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6)


def test_only_target_layers_change(policy: Path) -> None:
    config = replace(CONFIG, lora=LoraConfig(rank=4, targets=("q_proj", "mlp.up_proj"), push="merged"))
    before, after = (weights_of(trained(policy, config, updates)) for updates in (0, 2))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {
        f"model.layers.{layer}.{part}.weight"
        for layer in (0, 1)
        for part in ("self_attn.q_proj", "mlp.up_proj")
    }


def test_reference_of_the_kl_term_is_the_base_model(policy: Path) -> None:
    learner = LocalLearner(policy, replace(CONFIG, mini_batches=1))
    values = [learner.update(random_batch(5)).metrics["kl"] for _ in range(3)]
    assert values[0] == pytest.approx(0.0, abs=1e-9)
    assert values[2] > 1e-4
    # The same with a second model as reference.
    full = replace(CONFIG, mini_batches=1, lora=None)
    assert LocalLearner(policy, full)._stepper._reference is not None
    assert learner._stepper._reference is None


def test_gradient_is_that_of_the_chain_rule(policy: Path) -> None:
    # dL/dB = scale * (dL/dW') A^T and, with B = 0, dL/dA = 0: the norm follows from the full gradient.
    config = replace(CONFIG, mini_batches=1, loss=LossConfig(), grad_clip=1e9)
    adapted, batch = LocalLearner(policy, config), random_batch(3)
    a = {
        name.removesuffix(".lora_A.weight"): value.detach().clone()
        for name, value in adapter_parameters(adapted._stepper.model)
        if "lora_A" in name
    }
    norm = adapted.update(batch).metrics["grad_norm"]
    full = LocalLearner(policy, replace(config, lora=None, grad_clip=1e9))
    gradients: dict[str, torch.Tensor] = {}
    for name, parameter in full._stepper.model.named_parameters():
        parameter.register_hook(
            lambda grad, name=name: gradients.__setitem__(name, gradients.get(name, 0) + grad)
        )
    full.update(batch)
    squares = [((8.0 * gradients[f"{layer}.weight"] @ matrix.T) ** 2).sum() for layer, matrix in a.items()]
    assert norm == pytest.approx(torch.stack(squares).sum().sqrt().item(), rel=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saved_adapter_continues_bit_for_bit(policy: Path, tmp_path: Path, dtype: str) -> None:
    config = replace(CONFIG, dtype=dtype)
    straight, first, second = (
        trained(policy, config, 4),
        trained(policy, config, 2),
        LocalLearner(policy, config),
    )
    first.save(tmp_path)
    second.restore(tmp_path)
    for seed in range(2, 4):
        second.update(random_batch(seed))
    np.testing.assert_array_equal(resolve(second.weights())[0].data, resolve(straight.weights())[0].data)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [True, False])
def test_merged_folder_has_exactly_the_pushed_weights(tmp_path: Path, dtype: str, tied: bool) -> None:
    from transformers import AutoModelForCausalLM

    policy = write_tiny_policy(tmp_path / "base", is_tied=tied)
    learner = trained(policy, replace(CONFIG, dtype=dtype))
    learner.save(tmp_path)
    write_merged(tmp_path / "policy", policy, tmp_path / "merged")
    pushed = weights_of(learner)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert model.dtype == getattr(torch, dtype)
    named = dict(model.named_parameters())
    assert named.keys() == pushed.keys()
    assert all(torch.equal(named[name], tensor) for name, tensor in pushed.items())
    text = (policy / "tokenizer_config.json").read_text()
    assert (tmp_path / "merged" / "tokenizer_config.json").read_text() == text


def test_saved_adapter_is_one_that_peft_loads(policy: Path, tmp_path: Path) -> None:
    import peft
    from transformers import AutoModelForCausalLM

    learner = trained(policy)
    learner.save(tmp_path)
    loaded = peft.PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(policy), str(tmp_path / "policy")
    )
    merged = dict(loaded.merge_and_unload().named_parameters())
    for name, tensor in weights_of(learner).items():
        # peft adds scale * (B A), ours B A * scale in one fused call: the same fp32 sum in another order.
        torch.testing.assert_close(merged[name], tensor, rtol=1e-5, atol=1e-6)
    assert len(read_adapter(tmp_path / "policy").layers) == 14


def test_checkpoint_of_another_rank_scale_or_base_is_refused(policy: Path, tmp_path: Path) -> None:
    trained(policy, updates=0).save(tmp_path)
    for lora in (
        LoraConfig(rank=8),
        LoraConfig(rank=4, alpha=4.0),
        LoraConfig(rank=4, targets=("q_proj",)),
        None,
    ):
        with pytest.raises(LearnerError, match="checkpoint of another model"):
            LocalLearner(policy, replace(CONFIG, lora=lora)).restore(tmp_path)
    other = write_tiny_policy(tmp_path / "other", seed=1)
    with pytest.raises(LearnerError, match="base model with other weights"):
        LocalLearner(other, CONFIG).restore(tmp_path)


@pytest.mark.parametrize(
    ("target", "text"),
    [("c_attn", r"no linear layer 'c_attn'\. Use some of down_proj"), ("model.norm", "no linear")],
)
def test_target_that_the_model_lacks_is_refused(policy: Path, target: str, text: str) -> None:
    with pytest.raises(LearnerError, match=text):
        LocalLearner(policy, replace(CONFIG, lora=LoraConfig(targets=("q_proj", target))))


def test_head_under_another_name_is_refused(policy: Path) -> None:
    from transformers import Qwen3ForCausalLM

    class OddlyNamed(Qwen3ForCausalLM):
        def get_output_embeddings(self) -> torch.nn.Module:
            return self.get_submodule("model.layers.1.mlp.down_proj")

    model = OddlyNamed.from_pretrained(policy)
    with pytest.raises(LoraError, match="down_proj is the head of OddlyNamed"):
        add_adapter(model, LoraConfig(targets=("q_proj", "down_proj")))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
async def test_engine_with_a_pushed_adapter_has_the_merged_weights(policy: Path, dtype: Dtype) -> None:
    from mica_ray.rollout.local_engine import LocalEngine
    from tests.small_policy import small_folder

    folder = small_folder(policy.parent / f"small-{dtype}", tied=True)
    small = replace(CONFIG, dtype=dtype, lora=LoraConfig(rank=1))
    learner = trained(folder, small)
    engine = LocalEngine.from_folder(folder, ChatTemplate.from_folder(folder), dtype=dtype)
    await engine.load_weights(learner.weights())
    merged = dict(learner._stepper.whole_model())
    assert all(torch.equal(value, merged[name]) for name, value in engine._model.named_parameters())
    # Inputs and outputs of q and o (64, 64), k and v (64, 32), the MLP (64, 128) x 3, in two layers.
    numbers = 2 * (128 + 2 * 96 + 128 + 3 * 192)
    itemsize = 4 if dtype == "float32" else 2
    # Each of the 28 matrices starts on a line of 64 bytes.
    assert 0 <= resolve(learner.weights())[0].data.nbytes - numbers * itemsize < 28 * 64
