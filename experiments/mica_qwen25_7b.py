"""Does MICA bring Qwen2.5-7B-Instruct to the paper's result on one node with eight GPUs?

Command:   mica train experiments/mica_qwen25_7b.py --set cards=DIR
           (first with --dry-run, which checks everything; without EMPA's cards, or scenarios_file, it stops)
Needs:     8 GPUs of 80 GB (at most 58 GiB each), and a judge behind an OpenAI-compatible endpoint (the paper:
           Qwen3-235B). Set its address in roles.*.base_url and its key in the variable MICA_JUDGE_KEY. The
           evaluations before and after training use Gemini-2.5-pro with the key in GEMINI_API_KEY
           (published_evaluation.py).
Time:      not measured
Paper:     EMPA 0 passes / 15.7 before, GRPO 1 / 28.0, MICA 9.0 / 58.9 (arXiv 2603.06194 v2)

16 scenarios x 4 dialogues per step, two optimizer steps of 8 scenarios each, 727 scenarios in 2 epochs.
A training dialogue has at most 25 000 tokens and 15 turns; its end is checked from turn 12 on. Evaluations
have 45 turns, as the published ones.
"""

from __future__ import annotations

from pathlib import Path

from mica_ray.chat.openai_api import Endpoint
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

JUDGE = Endpoint(
    model="Qwen/Qwen3-235B-A22B-Instruct-2507",
    base_url="http://127.0.0.1:8000/v1",
    api_key_env="MICA_JUDGE_KEY",
)

CONFIG = RunConfig(
    name="mica-qwen25-7b",
    domain="mica_ray.domains.empa:EMPA",
    policy="Qwen/Qwen2.5-7B-Instruct",
    roles=RoleConfig(actor=JUDGE, director=JUDGE, judge=JUDGE),
    evaluation_roles=_published.ROLES,
    evaluation=_published.EVALUATION,
    rules=ProgressRules(max_turns=15, check_from=12),
    credit=Mica(alpha=0.5, gamma=0.85),
    rollout=RolloutConfig(group_size=4, sampling=Sampling(max_tokens=1024), context_length=25_000),
    engine=EngineConfig(dtype="bfloat16", max_model_len=25_000, gpus_per_engine=1.0, kv_cache_gib=40.0),
    num_engines=4,
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
    ray_learner=RayLearnerConfig(num_workers=4, gpus_per_worker=1.0, zero_stage=3, update_seconds=7200.0),
    loop=LoopConfig(num_steps=90, scenarios_per_step=16, checkpoint_every=10),
)
