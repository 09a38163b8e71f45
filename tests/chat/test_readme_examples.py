"""The endpoints in the READMEs work as written, on servers with the rules of their providers."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mica_ray.chat.endpoint import Endpoint
from mica_ray.config import RunConfig
from mica_ray.config.overrides import override
from mica_ray.launch.world import endpoint_chat
from mica_ray.types import Sampling
from tests.chat.local_endpoint import Answer, Request
from tests.chat.providers import KEY, PROVIDERS, Provider

ROOT = Path(__file__).parents[2]
FILES = (ROOT / "README.md", ROOT / "mica_ray" / "config" / "README.md")
EXAMPLES = [
    found[0]
    for file in FILES
    for found in re.findall(r"'(roles\.judge=(\{[^']*\"base_url\"[^']*\}))'", file.read_text())
]


class DeepSeek(Provider):
    """Knows JSON objects, not schemas."""

    def rejected(self, request: Request) -> Answer | None:
        is_schema = request.get("response_format", {}).get("type") == "json_schema"
        return self.reject("response_format") if is_schema else None


BY_NAME = {provider.name: provider for provider in PROVIDERS}
HOSTS = {
    "api.openai.com": BY_NAME["openai"],
    "api.mistral.ai": BY_NAME["mistral"],
    "generativelanguage.googleapis.com": BY_NAME["gemini"],
    "api.anthropic.com": BY_NAME["anthropic"],
    "api.deepseek.com": DeepSeek(),
    "openrouter.ai": BY_NAME["openrouter"],
    "NAME.openai.azure.com": BY_NAME["azure"],
}


def test_seven_providers_have_an_example() -> None:
    hosts = {
        urlsplit(found).netloc
        for example in EXAMPLES
        for found in re.findall(r'base_url": "([^"]*)', example)
    }
    assert hosts == set(HOSTS)
    assert len(EXAMPLES) == 8  # OpenAI's is in both files.


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text[12:50])
async def test_example_is_answered_with_the_settings_of_a_run(example: str) -> None:
    config = override(RunConfig(), [example])
    written = config.roles.judge
    assert isinstance(written, Endpoint)
    async with HOSTS[urlsplit(written.url).netloc] as provider:
        moved = override(config, [f"roles.judge.base_url={provider.url}"]).roles
        assert isinstance(moved.judge, Endpoint)
        chat = endpoint_chat(moved.judge, {written.api_key_env: KEY})
        sampling = Sampling(temperature=moved.temperature, max_tokens=moved.max_tokens, seed=1)
        reply = await chat.chat([{"role": "user", "content": "Judge."}], sampling, {"type": "object"})
        await chat.close()
    assert (reply.text, reply.attempts) == ('{"a": "yes"}', 1)
