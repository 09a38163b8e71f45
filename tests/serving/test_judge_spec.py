"""The judge's own model: called through its handle, invisible to clients."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from ray.exceptions import ActorDiedError

from mica_ray.chat.model import ChatError, ChatReply, JsonSchema
from mica_ray.config.references import ConfigError
from mica_ray.config.run_config import RunConfig
from mica_ray.dialogue.judger import judgement_schema
from mica_ray.launch.start_world import role_world
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.serving.handles import HandleChat, RetryingBackend
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.judge_spec import judge_spec
from mica_ray.serving.model_replica import ModelReplica, ModelSpec
from mica_ray.serving.service_spec import ServiceSpec
from mica_ray.serving.support.need_estimator import NeedEstimator
from mica_ray.serving.web_app import create_app
from mica_ray.types import Message, Sampling
from tests.serving.local_service import served
from tests.serving.scripted_backend import ScriptedBackend
from tests.small_policy import small_folder

PATH = "/v1/support/sessions"
HELLO: list[Message] = [{"role": "user", "content": "Hello."}]
JUDGED = RunConfig.model_validate({"roles": {"judge": "vllm:wise", "deadline_seconds": 0.2}})


@dataclass
class FakeHandle:
    """A fake deployment handle: returns an answer or an error value, or raises an error."""

    answers: list[ChatReply | ChatError | Exception | None]
    """One for each call, in order; None: it never answers."""
    schemas: list[JsonSchema | None] = field(default_factory=list)
    num_cancelled: int = 0

    def ask(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None
    ) -> asyncio.Task[ChatReply | ChatError]:
        self.schemas.append(schema)
        return asyncio.create_task(self._answer())

    async def _answer(self) -> ChatReply | ChatError:
        answer = self.answers.pop(0)
        try:
            if answer is None:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        if isinstance(answer, Exception) and not isinstance(answer, ChatError):
            raise answer
        assert answer is not None
        return answer


def good_answer() -> ChatReply:
    """Return the best levels: progress 2 and regress 0 on every axis."""
    fields = judgement_schema()["properties"]
    assert isinstance(fields, dict)
    levels = {name: max(kind["enum"]) if "enum" in kind else "so" for name, kind in fields.items()}
    return ChatReply(json.dumps(levels), "wise")


async def test_the_judge_behind_a_handle_estimates_the_state_of_a_session() -> None:
    died = ActorDiedError()
    replica = FakeHandle([good_answer(), died, None, good_answer()])
    world = role_world(JUDGED, lambda model: HandleChat(replica.ask, model))
    estimate = NeedEstimator(world.judge, world.domain)
    app = create_app(ScriptedBackend(), ServeSettings(sessions=True), estimator=estimate)
    async with served(app) as address, httpx.AsyncClient(base_url=address) as client:
        place = f"{PATH}/{(await client.post(PATH, json={})).json()['id']}"
        needs = [
            (await client.post(f"{place}/messages", json={"content": "I lost my job."})).json()["need"]
            for _ in range(4)
        ]
    assert [need["state"] is not None for need in needs] == [True, False, False, True]
    assert needs[0]["change"] == needs[3]["change"] and min(needs[0]["change"].values()) > 0
    # Without the words of the failure, which could quote the person or a key.
    reasons = ["The judge returned no score.", "The judge did not answer in time."]
    assert [needs[1]["error"], needs[2]["error"]] == reasons
    # The deadline of the roles also stops the sampling, and every call has the judge's schema.
    assert replica.num_cancelled == 1
    assert replica.schemas == [judgement_schema()] * 4


async def test_a_pickled_failure_keeps_its_kind() -> None:
    sent = ChatError("too long", kind="refused", endpoint="wise", prompt_tokens=7, completion_tokens=3)
    received = pickle.loads(pickle.dumps(sent))
    with pytest.raises(ChatError, match="too long") as caught:
        await HandleChat(FakeHandle([received]).ask, "wise").chat(HELLO, Sampling())
    found = caught.value
    assert (found.kind, found.endpoint, found.prompt_tokens, found.completion_tokens) == (
        "refused",
        "wise",
        7,
        3,
    )


async def test_a_replica_answers_as_a_role_and_refuses_what_is_too_long(tmp_path: Path) -> None:
    folder = small_folder(tmp_path, tied=True)
    spec = ModelSpec("judge wise", str(folder), EngineConfig(max_model_len=64), sampler="transformers")
    replica = ModelReplica(spec)
    reply = await replica.chat(HELLO, Sampling(max_tokens=4, seed=1), judgement_schema())
    assert reply.model == "judge wise" and 1 <= reply.completion_tokens <= 4
    long: list[Message] = [{"role": "user", "content": "long " * 100}]
    for _ in range(3):
        with pytest.raises(ChatError, match="the model's context is 64") as refused:
            await replica.chat(long, Sampling(), None)
        assert refused.value.kind == "refused"
    replica.check()  # A conversation that is too long is not a failure of the engine.


async def test_no_client_sees_or_reaches_the_judge() -> None:
    spec = ServiceSpec(
        (ModelSpec("support", "support"),), ServeSettings(sessions=True), judge=judge_spec(JUDGED, {})
    )
    assert spec.judge is not None and spec.judge.model is not None
    app = create_app(RetryingBackend(spec, {}), spec.settings)
    async with served(app) as address, httpx.AsyncClient(base_url=address) as client:
        cards = (await client.get("/v1/models")).json()["data"]
        asked = [
            await client.post("/v1/chat/completions", json={"model": name, "messages": HELLO})
            for name in ("judge", "judge wise", "wise", spec.judge.model.id)
        ]
    assert [card["id"] for card in cards] == ["support"]
    assert [answer.status_code for answer in asked] == [404] * 4


def test_a_judge_has_the_engine_of_roles_and_needs_no_other_role_of_its_run() -> None:
    roles = {
        "actor": {"model": "m", "base_url": "http://127.0.0.1:1/v1", "api_key_env": "NOT_SET"},
        "director": "vllm:other",
        "judge": "vllm:wise",
        "engine": {"max_model_len": 2048, "cpus_per_engine": 3},
        "num_engines": 2,
    }
    judge = judge_spec(RunConfig.model_validate({"roles": roles}), {}, fetch=lambda name: f"/models/{name}")
    assert judge.model is not None
    assert (judge.model.path, judge.model.engine.max_model_len) == ("/models/wise", 2048)
    assert judge.config.roles.served_models == ("wise",)
    spec = ServiceSpec((ModelSpec("support", "support"),), ServeSettings(sessions=True), judge=judge)
    # One model of 1 CPU and two judges of 3, twice for a redeployment.
    assert spec.cpus == 2 * (1 + 2 * 3)


def test_a_judge_elsewhere_has_no_model_here_and_needs_its_key() -> None:
    endpoint = {"model": "m", "base_url": "http://127.0.0.1:1/v1", "api_key_env": "JUDGE_KEY"}
    config = RunConfig.model_validate({"roles": {"judge": endpoint}})
    assert judge_spec(config, {"JUDGE_KEY": "k"}).model is None
    with pytest.raises(ConfigError, match=r"roles.judge: .*JUDGE_KEY is not set"):
        judge_spec(config, {})
