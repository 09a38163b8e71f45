"""Role models that vLLM serves for a whole sweep: started once, shared by processes, ended with the sweep."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mica_ray.config import RunConfig
from mica_ray.config.overrides import override
from mica_ray.launch.start_engines import start_role_model
from mica_ray.rollout.engine import EngineError
from mica_ray.tuning.resources import shared_roles
from mica_ray.tuning.shared_roles import SharedRoles
from mica_ray.types import Sampling
from tests.small_policy import small_folder

SECONDS = 600
"""Limit for starting vLLM and two processes on a loaded machine; idle cores need one minute."""

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.timeout(2 * SECONDS)]


def ask_elsewhere(config: str, model: str) -> str:
    """Ask the judge from another process, as a trial does, and return its reply."""
    import ray

    def trial() -> str:
        async def reply() -> str:
            read = RunConfig.model_validate_json(config)
            chat, engine = await start_role_model(read, model, inline=False, shared=True)
            answer = await chat.chat([{"role": "user", "content": "Hello."}], Sampling(max_tokens=8, seed=1))
            await engine.close()
            return answer.text

        return asyncio.run(reply())

    return ray.get(ray.remote(trial).options(num_cpus=1).remote(), timeout=SECONDS)


def test_trials_of_equal_roles_ask_one_engine_which_the_sweep_ends(ray_cluster: None, tmp_path: Path) -> None:
    model = str(small_folder(tmp_path / "judge", tied=True))
    base = override(
        RunConfig(),
        [f"roles.judge=vllm:{model}", "roles.max_tokens=8", "roles.engine.dtype=float32",
         "roles.engine.max_model_len=256", "roles.engine.kv_cache_gib=0.25"],
    )  # fmt: skip
    configs = [override(base, [f"credit.alpha={alpha}"]) for alpha in (0.0, 1.0)]
    roles = SharedRoles()
    try:
        for _ in range(2):
            roles.serve(shared_roles(configs, inline=False))
        answers = {ask_elsewhere(config.model_dump_json(), model) for config in configs}
        assert len(answers) == 1
    finally:
        roles.close()
    with pytest.raises(EngineError, match="no shared pool"):
        asyncio.run(start_role_model(base, model, inline=False, shared=True))
