"""The evaluation of the paper, which its recipes use before and after training.

45 turns with checks from turn 12, Gemini-2.5-pro as judge, Director and Actor, replies at temperature 0.7,
top_p 0.8, presence penalty 1.5 and up to 8192 tokens (arXiv 2603.06194). Three dialogues per official case.
GEMINI_API_KEY holds the key. For other roles: --set evaluation_roles=null uses those of the training.
"""

from __future__ import annotations

from mica_ray.chat.openai_api import Endpoint
from mica_ray.config import RoleConfig
from mica_ray.domains.empa import EMPA
from mica_ray.evaluation.comparable import PUBLISHED_MODEL, PUBLISHED_SAMPLING
from mica_ray.evaluation.evaluate import EvaluationConfig

GEMINI = Endpoint(
    model=PUBLISHED_MODEL,
    base_url="https://generativelanguage.googleapis.com/v1beta/openai",
    api_key_env="GEMINI_API_KEY",
    omit=("seed",),
    timeout_seconds=180.0,
    deadline_seconds=600.0,
)

# The model thinks before every answer, and its thoughts count as tokens.
ROLES = RoleConfig(actor=GEMINI, director=GEMINI, judge=GEMINI, max_tokens=8192, deadline_seconds=900.0)

EVALUATION = EvaluationConfig(
    samples=3,
    temperature=PUBLISHED_SAMPLING.temperature,
    top_p=PUBLISHED_SAMPLING.top_p,
    presence_penalty=PUBLISHED_SAMPLING.presence_penalty,
    max_tokens=PUBLISHED_SAMPLING.max_tokens,
    rules=EMPA.rules,
)
