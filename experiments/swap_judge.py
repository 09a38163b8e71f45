"""Does a policy trained under one judge also please another?

Command:   mica train experiments/swap_judge.py:minimax_endpoint --set out=runs/minimax --set cards=DIR
               --set roles.{actor,director,judge}.base_url=URL (three settings)
           mica evaluate runs/minimax --set evaluation_roles.judge.model=zai-org/GLM-4.7
               --set evaluation_roles.judge.base_url=URL
           (endpoints: qwen_endpoint, which is also CONFIG; minimax_endpoint; glm_endpoint. On GPUs of the
           same cluster, without URLs: qwen_served, minimax_served, glm_served. --dry-run counts calls, GPUs.)
Needs:     the policy's 8 GPUs as in mica_qwen3.py, and a judge: your own server, a provider, or 8 more
           GPUs of 141 GB. MICA_JUDGE_KEY holds the key, or any word if the server needs none.
Time:      not measured; none of the three judges has been run
Paper:     EMPA score of the 8B policy trained under Qwen3-235B, MiniMax-M2.5 or GLM-4.7: 41.1 to 43.5, of
           14B 68.0 to 69.1, of 32B 83.4 to 84.2; all evaluated under Gemini-2.5-pro (arXiv 2603.06194)

Actor, Director and judge are one model, so a served one is loaded once; none of them is trained. Evaluations
use Gemini-2.5-pro (published_evaluation.py). To evaluate under another judge, replace only
`evaluation_roles.judge`; `evaluation_roles=null` evaluates with the roles of the training. GLM-4.7 runs
without thinking (extra_body). MiniMax-M2.5 always thinks, Qwen3-235B-Instruct never does. A thinking judge
needs more tokens (roles.max_tokens), more time (timeout_seconds) and a reasoning parser in its server;
thoughts that still come inside the text are removed. Set your prices in
roles.judge.price_per_million_prompt_tokens and roles.judge.price_per_million_completion_tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mica_ray.chat.openai_api import Endpoint
from mica_ray.config import RoleConfig, RunConfig
from mica_ray.config.references import resolve
from mica_ray.rollout.engine_config import EngineConfig

QWEN = "Qwen/Qwen3-235B-A22B-Instruct-2507"
MINIMAX = "MiniMaxAI/MiniMax-M2.5"
GLM = "zai-org/GLM-4.7"

_NO_THINKING: Mapping[str, bool | int | str] = {"enable_thinking": False}
"""Chat template argument for GLM; the other two have no such switch."""


def qwen_endpoint() -> RunConfig:
    """Return the 8B run under Qwen3-235B behind an endpoint; the paper's judge."""
    return _under_endpoint("qwen", _endpoint(QWEN), max_tokens=2048)


def minimax_endpoint() -> RunConfig:
    """Return the 8B run under MiniMax-M2.5 behind an endpoint; it thinks before every answer."""
    return _under_endpoint("minimax", replace(_endpoint(MINIMAX), timeout_seconds=180.0), max_tokens=8192)


def glm_endpoint() -> RunConfig:
    """Return the 8B run under GLM-4.7 behind an endpoint, not thinking."""
    endpoint = replace(_endpoint(GLM), extra_body={"chat_template_kwargs": dict(_NO_THINKING)})
    return _under_endpoint("glm", endpoint, max_tokens=2048)


def qwen_served() -> RunConfig:
    """Return the 8B run under Qwen3-235B on GPUs of the same cluster."""
    return _under_engines("qwen", QWEN, max_tokens=2048)


def minimax_served() -> RunConfig:
    """Return the 8B run under MiniMax-M2.5 on GPUs of the same cluster."""
    return _under_engines("minimax", MINIMAX, max_tokens=8192)


def glm_served() -> RunConfig:
    """Return the 8B run under GLM-4.7 on GPUs of the same cluster, not thinking."""
    return _under_engines("glm", GLM, max_tokens=2048, template=_NO_THINKING)


def _policy_run() -> RunConfig:
    """Return the run of the 8B policy, whose roles are replaced here."""
    found = resolve(f"{Path(__file__).with_name('mica_qwen3.py')}:CONFIG")
    assert isinstance(found, RunConfig), "mica_qwen3.py holds a RunConfig"
    return found


def _endpoint(model: str) -> Endpoint:
    # A step has 64 dialogues, each with one call at a time: 64 calls keep a large server busy.
    return Endpoint(model=model, api_key_env="MICA_JUDGE_KEY", max_concurrency=64, deadline_seconds=600.0)


def _under_endpoint(name: str, endpoint: Endpoint, *, max_tokens: int) -> RunConfig:
    roles = RoleConfig(
        actor=endpoint,
        director=endpoint,
        judge=endpoint,
        max_tokens=max_tokens,
        deadline_seconds=900.0,
    )
    return _policy_run().model_copy(update={"name": f"judge-{name}", "roles": roles})


def _under_engines(
    name: str, model: str, *, max_tokens: int, template: Mapping[str, bool | int | str] | None = None
) -> RunConfig:
    served = f"vllm:{model}"
    roles = RoleConfig(
        actor=served,
        director=served,
        judge=served,
        max_tokens=max_tokens,
        deadline_seconds=900.0,
        # Eight GPUs of 141 GB hold the bfloat16 weights of Qwen3-235B (470 GB), MiniMax-M2.5 (460 GB) and
        # GLM-4.7 (715 GB) by their published sizes, with room for the cache of long dialogues.
        engine=EngineConfig(
            dtype="bfloat16",
            max_model_len=32_768,
            tensor_parallel=8,
            gpus_per_engine=8.0,
            kv_cache_gib=24.0,
            max_num_seqs=64,
        ),
        chat_template_arguments=dict(template or {}),
    )
    return _policy_run().model_copy(update={"name": f"judge-{name}-served", "roles": roles})


CONFIG = qwen_endpoint()
