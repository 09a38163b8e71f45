from __future__ import annotations

import pytest

from mica_ray.config import ConfigError, RunConfig
from mica_ray.config.overrides import override
from mica_ray.tuning.resources import (
    max_concurrent,
    shared_roles,
    shared_total,
    trial_bundles,
    trial_total,
)

ON_GPUS = override(
    RunConfig(),
    [
        "num_engines=2", "engine.gpus_per_engine=2", "engine.cpus_per_engine=1",
        "ray_learner.num_workers=4", "ray_learner.gpus_per_worker=1", "ray_learner.cpus_per_worker=2",
        "roles.judge=vllm:judge", "roles.engine.gpus_per_engine=8", "roles.engine.cpus_per_engine=1",
    ],
)  # fmt: skip


def test_trial_has_a_bundle_for_its_process_and_for_each_engine_of_its_own() -> None:
    # The engine of the judge is not included.
    assert trial_bundles(ON_GPUS, inline=False, cpus=1) == (
        {"CPU": 1},
        {"CPU": 1, "GPU": 2},
        {"CPU": 1, "GPU": 2},
    )


def test_inline_trial_is_one_bundle() -> None:
    assert trial_bundles(ON_GPUS, inline=True, cpus=2) == ({"CPU": 2},)


def test_room_is_left_for_every_learner() -> None:
    # Engines 2 x 2, learner 4 x 1: 8 GPUs. CPUs: driver 1, engines 2, learner 4 x 2 = 11.
    wanted = trial_total(ON_GPUS, inline=False, cpus=1)
    assert wanted == {"CPU": 11, "GPU": 8}
    assert max_concurrent(wanted, {"CPU": 100, "GPU": 20}) == 2
    assert max_concurrent(wanted, {"CPU": 12, "GPU": 20}) == 1
    assert max_concurrent(wanted, {"CPU": 100, "GPU": 20}, bound=1) == 1


def test_equal_role_models_are_served_once_beside_the_trials() -> None:
    alphas = [override(ON_GPUS, [f"credit.alpha={alpha}"]) for alpha in (0.0, 1.0)]
    other = override(ON_GPUS, ["roles.engine.max_model_len=8192"])
    assert [model for _, model in shared_roles(alphas, inline=False).values()] == ["judge"]
    taken = shared_total(shared_roles([*alphas, other], inline=False))
    assert taken == {"CPU": 2, "GPU": 16}
    assert shared_roles(alphas, inline=True) == {}
    wanted = trial_total(ON_GPUS, inline=False, cpus=1)
    # 16 of 40 GPUs serve roles; 24 are left for trials of 8.
    assert max_concurrent(wanted, {"CPU": 100, "GPU": 40}, shared=taken) == 3
    with pytest.raises(ConfigError, match="needs 8 GPUs, and the roles' shared engines need 16, but"):
        max_concurrent(wanted, {"CPU": 100, "GPU": 20}, shared=taken)


def test_trial_larger_than_the_cluster_is_refused() -> None:
    with pytest.raises(ConfigError, match="One trial needs 16 GPUs, but the cluster has 8"):
        max_concurrent({"CPU": 1, "GPU": 16}, {"CPU": 64, "GPU": 8})
