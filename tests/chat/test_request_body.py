"""The body of a request: a value at the default is not sent, since many endpoints reject even that."""

from __future__ import annotations

from dataclasses import replace

from mica_ray.chat.endpoint import Endpoint
from mica_ray.chat.request_body import request_body
from mica_ray.types import Message, Sampling

ENDPOINT = Endpoint(model="m", base_url="http://127.0.0.1:1/v1")
DEFAULTS = Sampling(temperature=1.0, top_p=1.0, max_tokens=5)
MESSAGES: list[Message] = [{"role": "user", "content": "hi"}]
PLAIN = {"model": "m", "messages": MESSAGES, "max_tokens": 5}


def body(sampling: Sampling, endpoint: Endpoint = ENDPOINT) -> dict[str, object]:
    return request_body(endpoint, MESSAGES, sampling, None)


def test_defaults_are_not_sent_and_every_other_value_is() -> None:
    assert body(DEFAULTS) == PLAIN
    others = {"temperature": 0.0, "top_p": 0.5, "presence_penalty": 0.1, "seed": 0, "stop": ("END",)}
    for name, value in others.items():
        sent = ["END"] if name == "stop" else value
        assert body(replace(DEFAULTS, **{name: value})) == {**PLAIN, name: sent}  # pyright: ignore


def test_endpoint_sets_renames_omits_and_adds_fields() -> None:
    endpoint = replace(
        ENDPOINT,
        temperature=1.0,
        token_limit_name="max_completion_tokens",
        rename={"seed": "random_seed"},
        omit=("top_p",),
        extra_body={"safe_prompt": True},
    )
    assert body(replace(DEFAULTS, temperature=0.2, top_p=0.5, seed=3), endpoint) == {
        **{"model": "m", "messages": MESSAGES, "temperature": 1.0, "max_completion_tokens": 5},
        **{"random_seed": 3, "safe_prompt": True},
    }
