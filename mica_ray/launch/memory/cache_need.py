"""How much key-value cache the dialogues of a run can fill: its engines reserve no more.

On a CPU vLLM writes zeros to the whole cache, so all of it counts as memory of the engine.
"""

from __future__ import annotations

from dataclasses import replace

from mica_ray.config.role_config import VLLM_PREFIX
from mica_ray.config.run_config import RunConfig
from mica_ray.launch.memory.formulas import cache_bytes
from mica_ray.launch.memory.model_shape import ModelShape
from mica_ray.rollout.engine_config import EngineConfig

_BLOCK = 128
"""Tokens by which vLLM allocates, at most."""
_GIB = 2**30


def policy_engine(config: RunConfig, shape: ModelShape | None) -> EngineConfig:
    """Return the policy's engine with the cache that it can fill, one context per dialogue.

    Args:
        config: of the run.
        shape: of the policy; None: unknown, and the config's size stays.
    """
    return _filled(config.engine, shape, contexts=_num_dialogues(config))


def role_engine(config: RunConfig, model: str, shape: ModelShape | None) -> EngineConfig:
    """Return the engine of a model served for roles, one context per dialogue and role that it plays."""
    roles = config.roles
    played = sum(player == f"{VLLM_PREFIX}{model}" for player in roles.players.values())
    return _filled(roles.engine, shape, contexts=max(1, played) * _num_dialogues(config))


def _num_dialogues(config: RunConfig) -> int:
    """Return the largest number of dialogues played at a time.

    An evaluation of a whole split counts as many as an engine samples at once.
    """
    evaluation = config.evaluation
    scenarios = evaluation.max_scenarios
    evaluated = config.engine.max_num_seqs if scenarios is None else scenarios * evaluation.samples
    return max(config.dialogues_per_step, evaluated)


def _filled(engine: EngineConfig, shape: ModelShape | None, *, contexts: int) -> EngineConfig:
    """Lower the size of the cache to `contexts` times the longest context, sharded over the engine's GPUs."""
    if shape is None:
        return engine
    tokens = contexts * -(-engine.max_model_len // _BLOCK) * _BLOCK
    shards = min(engine.tensor_parallel, shape.kv_heads)
    needed = cache_bytes(shape, tokens, engine.dtype) / shards
    return replace(engine, kv_cache_gib=min(engine.kv_cache_gib, needed / _GIB))
