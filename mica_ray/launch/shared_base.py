"""Which adapters of a service share the engine of their base model, instead of being merged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from mica_ray.config.references import ConfigError
from mica_ray.launch.policy_source import adapter_base
from mica_ray.lora.adapter import LoraError
from mica_ray.lora.folder import base_of, check_base, is_adapter


def shared_bases(policies: Sequence[str], *, weights: bool = True) -> Mapping[str, Path]:
    """Return the base model's folder of every adapter whose base model others of these policies have too.

    Args:
        policies: of the models of a service: folders or hub ids, of adapters or models.
        weights: whether to download the weights of a base model.

    Raises:
        ConfigError: an adapter's base model is missing, or has other weights than in training.
    """
    adapters = {policy: folder for policy in policies if is_adapter(folder := Path(policy).expanduser())}
    if not adapters or len(policies) < 2:
        return {}
    bases = {policy: adapter_base(folder.resolve(), weights=weights) for policy, folder in adapters.items()}
    # The base model itself, as the adapters name it or as a folder.
    named = {base_of(adapters[policy]): base for policy, base in bases.items()}
    named |= {str(base): base for base in bases.values()}
    others = [policy for policy in policies if policy not in adapters]
    whole = [named.get(policy) or named.get(str(Path(policy).expanduser().resolve())) for policy in others]
    users = Counter([*bases.values(), *whole])
    shared = {policy: base for policy, base in bases.items() if users[base] > 1}
    for policy, base in shared.items():
        try:
            check_base(adapters[policy], base)
        except LoraError as error:
            raise ConfigError(f"policy {error}") from error
    return shared
