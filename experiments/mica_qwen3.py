"""Does MICA bring Qwen3-8B, 14B and 32B to the paper's results?

Command:   mica train experiments/mica_qwen3.py:qwen3_14b --set cards=DIR --dry-run
           (names: qwen3_8b, which is also CONFIG; qwen3_14b; qwen3_32b; all stop without cards)
Needs:     8 GPUs of 80 GB for 8B (at most 59 GiB each) and 14B (71 GiB), 32 for 32B (72 GiB);
           judge endpoints as in mica_qwen25_7b.py
Time:      not measured
Paper:     EMPA passes / score before, GRPO, MICA (arXiv 2603.06194 v2): 8B 0 / 13.3, 5 / 33.0, 8.3 / 41.5;
           14B 12 / 53.5, 12 / 55.4, 20.0 / 68.4; 32B 19 / 68.9, 22 / 73.9, 26.3 / 84.2

One epoch of 727 scenarios: 45 steps. A training dialogue has at most 15 turns for 8B, 30 for 14B and 32B; its
end is checked from turn 12 on. Evaluations have 45 turns and the published judge (published_evaluation.py).
Thinking is off. Qwen3's template then removes the empty thought from earlier replies; the history keeps it as
it was sampled, so that a dialogue is one row in training.
"""

from __future__ import annotations

from pathlib import Path

from mica_ray.config import RoleConfig, RunConfig
from mica_ray.config.references import load_module_file
from mica_ray.credit import Mica
from mica_ray.dialogue.progress import ProgressRules
from mica_ray.losses import LossConfig
from mica_ray.rollout.collect import RolloutConfig
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.training.learner_group import RayLearnerConfig
from mica_ray.training.loop import LoopConfig
from mica_ray.training.update import LearnerConfig
from mica_ray.types import Sampling

_published = load_module_file(Path(__file__).with_name("published_evaluation.py"))
JUDGE = load_module_file(Path(__file__).with_name("mica_qwen25_7b.py")).JUDGE


def qwen3_8b() -> RunConfig:
    """Return the run of the 8B model on one node."""
    return _run("8B", max_turns=15, num_engines=4, tensor_parallel=1, num_workers=4)


def qwen3_14b() -> RunConfig:
    """Return the run of the 14B model on one node."""
    # Four workers would need more than 80 GiB each.
    return _run("14B", max_turns=30, num_engines=2, tensor_parallel=1, num_workers=6)


def qwen3_32b() -> RunConfig:
    """Return the run of the 32B model on four nodes."""
    return _run("32B", max_turns=30, num_engines=4, tensor_parallel=4, num_workers=16)


def _run(size: str, *, max_turns: int, num_engines: int, tensor_parallel: int, num_workers: int) -> RunConfig:
    return RunConfig(
        name=f"mica-qwen3-{size.lower()}",
        domain="mica_ray.domains.empa:EMPA",
        policy=f"Qwen/Qwen3-{size}",
        roles=RoleConfig(actor=JUDGE, director=JUDGE, judge=JUDGE),
        evaluation_roles=_published.ROLES,
        evaluation=_published.EVALUATION,
        chat_template_arguments={"enable_thinking": False},
        rules=ProgressRules(max_turns=max_turns, check_from=12),
        credit=Mica(alpha=0.5, gamma=0.85),
        rollout=RolloutConfig(
            group_size=4,
            sampling=Sampling(max_tokens=1024),
            context_length=25_000,
            history="as_sampled",
        ),
        engine=EngineConfig(
            dtype="bfloat16",
            max_model_len=25_000,
            tensor_parallel=tensor_parallel,
            gpus_per_engine=float(tensor_parallel),
            kv_cache_gib=40.0,
        ),
        num_engines=num_engines,
        gpu_memory_gib=79.0,
        learner=LearnerConfig(
            learning_rate=1e-6,
            schedule="cosine",
            warmup_fraction=0.05,
            weight_decay=0.1,
            grad_clip=1.0,
            mini_batches=2,
            micro_batch_tokens=25_000,
            dtype="bfloat16",
            gradient_checkpointing=True,
            loss=LossConfig(clip_low=0.2, clip_high=0.28, dual_clip=10.0),
        ),
        ray_learner=RayLearnerConfig(
            num_workers=num_workers, gpus_per_worker=1.0, zero_stage=3, update_seconds=7200.0
        ),
        loop=LoopConfig(num_steps=45, scenarios_per_step=16, checkpoint_every=10),
    )


CONFIG = qwen3_8b()
