"""The policy as a chat model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from mica_ray.chat.model import ChatError
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.local_engine import LocalEngine
from mica_ray.rollout.policy_chat import PolicyChat
from mica_ray.types import Generation, Message, PolicyWeights, Sampling
from tests.small_policy import CHATML, small_model, small_tokenizer

MESSAGES: list[Message] = [{"role": "user", "content": "Hello."}]


@dataclass
class GuidedEcho:
    """An engine that can follow a schema, and records it."""

    schemas: list[object] = field(default_factory=list)

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        return Generation(tuple(prompt_ids), (20,), (0.0,), "free", "stop", 0)

    async def generate_json(
        self, prompt_ids: Sequence[int], sampling: Sampling, schema: Mapping[str, object]
    ) -> Generation:
        self.schemas.append(schema)
        return Generation(tuple(prompt_ids), (20,), (0.0,), "{}", "stop", 0)

    async def load_weights(self, weights: PolicyWeights) -> None: ...

    async def close(self) -> None: ...


@dataclass
class Thinker(GuidedEcho):
    """An engine whose model writes its thinking."""

    says: str = ""

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        return Generation(tuple(prompt_ids), (20,), (0.0,), self.says, "stop", 0)


class DeadEngine(GuidedEcho):
    """A dead engine."""

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        raise EngineError("engine 0 died")


async def test_reply_is_the_engines_reply_to_the_rendered_prompt() -> None:
    template = ChatTemplate(small_tokenizer())
    engine = LocalEngine(small_model(tied=True), template)
    sampling = Sampling(max_tokens=6, seed=1)
    reply = await PolicyChat(engine, template, name="tiny").chat(MESSAGES, sampling)
    direct = await engine.generate(template.prompt(MESSAGES), sampling)
    assert (reply.text, reply.model) == (direct.text, "tiny")
    assert (reply.prompt_tokens, reply.completion_tokens) == (len(direct.prompt_ids), len(direct.token_ids))


async def test_schema_reaches_an_engine_that_can_follow_it() -> None:
    engine = GuidedEcho()
    chat = PolicyChat(engine, ChatTemplate(small_tokenizer()))
    assert (await chat.chat(MESSAGES, Sampling(), {"type": "object"})).text == "{}"
    assert (await chat.chat(MESSAGES, Sampling())).text == "free"
    assert engine.schemas == [{"type": "object"}]


async def test_engine_failure_is_a_chat_failure() -> None:
    with pytest.raises(ChatError, match="engine 0 died") as caught:
        await PolicyChat(DeadEngine(), ChatTemplate(small_tokenizer()), name="tiny").chat(
            MESSAGES, Sampling()
        )
    assert (caught.value.kind, caught.value.endpoint) == ("infrastructure", "tiny")


async def test_thinking_of_a_served_model_is_kept_apart() -> None:
    chat = PolicyChat(Thinker(says="<think>\nhm\n</think>\n\nHello."), ChatTemplate(small_tokenizer()))
    reply = await chat.chat(MESSAGES, Sampling())
    assert (reply.text, reply.thinking) == ("Hello.", "hm")


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (CHATML, "<think>hm, this goes on"),
        (CHATML.replace("assistant\n", "assistant\n<think>\n"), "hm, this"),
    ],
    ids=["opened by the model", "opened by the template"],
)
async def test_reply_cut_off_inside_its_thinking_is_a_content_failure(template: str, says: str) -> None:
    chat = PolicyChat(Thinker(says=says), ChatTemplate(small_tokenizer(template)), name="tiny")
    with pytest.raises(ChatError, match=r"tiny: .*Raise max_tokens") as caught:
        await chat.chat(MESSAGES, Sampling())
    assert (caught.value.kind, caught.value.completion_tokens) == ("content", 1)
