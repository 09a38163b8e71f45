"""A small random model behind the web application, in this process and without Ray."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.serving.handles import LocalModel, RetryingBackend
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.model_replica import ModelReplica, ModelSpec
from mica_ray.serving.service_spec import ServiceSpec
from mica_ray.serving.web_app import create_app
from tests.small_policy import CHATML, small_model, small_tokenizer

if TYPE_CHECKING:
    from starlette.applications import Starlette

TOOL_TEMPLATE = (
    "{% if tools %}<|im_start|>system\nTools:{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}"
    "<|im_end|>\n{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{{ message.content }}{% for call in message.tool_calls or [] %}<tool_call>"
    "{{ {'name': call.function.name, 'arguments': call.function.arguments} | tojson }}</tool_call>"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if mood is defined %}({{ mood }}) {% endif %}{% endif %}"
)
"""ChatML with tools, and a variable of its own."""


def small_service(
    folder: Path,
    *,
    template: str = CHATML,
    arguments: Mapping[str, bool | int | str] | None = None,
    sampler: Literal["transformers", "vllm"] = "transformers",
    context_length: int = 256,
) -> Starlette:
    """Return the application over one model named support.

    Args:
        folder: for the model.
        template: of its tokenizer.
        arguments: of the template.
        sampler: what generates.
        context_length: in tokens, at most 512.
    """
    small_model(tied=True).save_pretrained(folder)
    small_tokenizer(template).save_pretrained(folder)
    spec = ModelSpec(
        "support",
        str(folder),
        EngineConfig(max_model_len=context_length),
        sampler=sampler,
        template_arguments=arguments or {},
    )
    replica = ModelReplica(spec)
    backend = RetryingBackend(ServiceSpec((spec,)), {"support": LocalModel(replica, replica.prompt())})
    return create_app(backend, ServeSettings(default_reply_tokens=8))
