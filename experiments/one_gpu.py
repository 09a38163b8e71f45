"""Does MICA train a model with LoRA on one GPU, which engine and learner share?

Command:   mica train experiments/one_gpu.py --set cards=DIR          (7B on 80 GB)
           mica train experiments/one_gpu.py:small --set cards=DIR    (1.5B on 24 GB)
           (first with --dry-run, which checks everything; without EMPA's cards, or scenarios_file, it stops)
Needs:     1 GPU of 80 GB for 7B (at most 70 GiB), 1 of 24 GB for 1.5B (at most 19 GiB), and a judge behind an
           OpenAI-compatible endpoint: its address in roles.*.base_url, its key in the variable MICA_JUDGE_KEY
Time:      not measured; no GPU has run this
Paper:     none: the paper trains all weights on eight GPUs (mica_qwen25_7b.py)

The engine sleeps during updates and wakes with the next adapter; only the adapter travels. A KL term would
need no second model: the reference is the base with the adapter off. Dialogues are shorter than the paper's
25 000 tokens: 16 000 for 7B, 8 000 for 1.5B; scores are therefore not comparable with published ones.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mica_ray.config import RoleConfig, RunConfig
from mica_ray.config.references import load_module_file
from mica_ray.dialogue.progress import ProgressRules
from mica_ray.lora.config import LoraConfig
from mica_ray.rollout.collect import RolloutConfig
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.training.learner_group import RayLearnerConfig
from mica_ray.training.loop import LoopConfig
from mica_ray.training.update import LearnerConfig
from mica_ray.types import Sampling

_published = load_module_file(Path(__file__).with_name("published_evaluation.py"))
JUDGE = load_module_file(Path(__file__).with_name("mica_qwen25_7b.py")).JUDGE


def _config(size: str, *, context: int, cache_gib: float, card_gib: float) -> RunConfig:
    return RunConfig(
        name=f"one-gpu-{size.lower()}",
        domain="mica_ray.domains.empa:EMPA",
        policy=f"Qwen/Qwen2.5-{size}-Instruct",
        roles=RoleConfig(actor=JUDGE, director=JUDGE, judge=JUDGE),
        evaluation_roles=_published.ROLES,
        evaluation=replace(_published.EVALUATION, max_scenarios=30, max_tokens=1024),
        rules=ProgressRules(max_turns=15, check_from=12),
        rollout=RolloutConfig(group_size=4, sampling=Sampling(max_tokens=512), context_length=context),
        engine=EngineConfig(
            dtype="bfloat16",
            max_model_len=context,
            gpus_per_engine=0.5,
            kv_cache_gib=cache_gib,
            sleep_level=1,  # The adapter is all that the learner sends, so the engine keeps its weights.
        ),
        learner=LearnerConfig(
            learning_rate=2e-5,
            schedule="cosine",
            warmup_fraction=0.05,
            grad_clip=1.0,
            mini_batches=2,
            micro_batch_tokens=context,
            dtype="bfloat16",
            gradient_checkpointing=True,
            lora=LoraConfig(rank=32, alpha=64.0),
        ),
        ray_learner=RayLearnerConfig(gpus_per_worker=0.5, zero_stage=0, update_seconds=7200.0),
        gpu_memory_gib=card_gib,
        loop=LoopConfig(num_steps=90, scenarios_per_step=8, checkpoint_every=10),
    )


CONFIG = _config("7B", context=16_000, cache_gib=36.0, card_gib=79.0)


def small() -> RunConfig:
    """Return the config of Qwen2.5-1.5B for a card of 24 GB."""
    return _config("1.5B", context=8_000, cache_gib=8.0, card_gib=23.5)
