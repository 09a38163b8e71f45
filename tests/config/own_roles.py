"""User-defined roles that the tests of configs refer to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mica_ray.chat.model import ChatReply, JsonSchema
from mica_ray.chat.openai_api import Endpoint
from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.types import (
    Judgement,
    Message,
    Sampling,
    Scenario,
    State,
)

ENDPOINT = Endpoint(model="judge-1", base_url="http://127.0.0.1:1/v1", api_key_env="JUDGE_KEY")


@dataclass(frozen=True, slots=True)
class QuestionJudge:
    """A user-defined judge that is not a language model."""

    level: int = 1

    async def score(
        self, scenario: Scenario, dialogue: Sequence[SpokenTurn], *, state: State, seed: int
    ) -> Judgement:
        return Judgement((self.level, 0, 0), (0, 0, 0), (float(self.level), 0.0, 0.0))


@dataclass(frozen=True, slots=True)
class YesChat:
    """A user-defined role model."""

    answer: str = "Yes."

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        return ChatReply(self.answer, "yes")


OWN_JUDGE, OWN_CHAT = f"{__name__}:QuestionJudge", f"{__name__}:YesChat"
