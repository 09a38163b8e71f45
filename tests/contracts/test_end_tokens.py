"""Every engine ends a reply at the tokens of the template and at those that the model folder lists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.local_engine import LocalEngine
from mica_ray.rollout.prompting.end_tokens import listed_end_tokens
from mica_ray.types import Sampling
from tests.small_policy import small_folder, small_model, small_tokenizer, token_id

END = token_id("<|im_end|>")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory.mktemp("policy"), tied=True)


def rewrite(folder: Path, name: str, ends: object) -> None:
    """Set eos_token_id in a file of the folder; ... removes the field, None the file."""
    record = json.loads((folder / name).read_text())
    record.pop("eos_token_id", None)
    (folder / name).write_text(json.dumps(record if ends is ... else {**record, "eos_token_id": ends}))


@pytest.mark.parametrize(
    ("generation", "model", "expected"),
    [
        ([2, 7, 11], 5, {2, 7, 11}),
        (7, 5, {7}),
        ([7], 5, {7}),
        (..., 5, set()),  # vLLM too looks at the model's only if there is no file for generation.
        (None, [3, 4], {3, 4}),
        (None, 3, {3}),
        (None, ..., set()),
    ],
)
def test_folder_lists_end_tokens_in_one_of_two_files(
    saved: Path, tmp_path: Path, generation: object, model: object, expected: set[int]
) -> None:
    folder = copied(saved, tmp_path)
    rewrite(folder, "config.json", model)
    if generation is None:
        (folder / "generation_config.json").unlink()
    else:
        rewrite(folder, "generation_config.json", generation)
    assert listed_end_tokens(folder) == expected
    assert set(ChatTemplate.from_folder(folder).stop_ids) == {END, *expected}


@pytest.mark.parametrize("content", ["{", "[]", "", "\x00"])
def test_spoiled_file_lists_no_more_than_the_model(saved: Path, tmp_path: Path, content: str) -> None:
    folder = copied(saved, tmp_path)
    (folder / "generation_config.json").write_text(content)
    assert listed_end_tokens(folder) <= {2}
    assert listed_end_tokens(tmp_path / "nothing here") == frozenset()


def copied(saved: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in saved.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    return folder


async def test_local_engine_ends_a_reply_at_a_listed_token() -> None:
    sampling = Sampling(max_tokens=12, seed=1)
    model, tokenizer = small_model(tied=True), small_tokenizer()
    free = await LocalEngine(model, ChatTemplate(tokenizer)).generate([20, 21, 22], sampling)
    # An ordinary token of this very reply becomes an end; the tokens before it stay equal.
    end = free.token_ids[3]
    place = free.token_ids.index(end)
    ended = await LocalEngine(model, ChatTemplate(tokenizer, listed_ends=[end])).generate(
        [20, 21, 22], sampling
    )
    assert ended.token_ids == free.token_ids[: place + 1]
    assert (ended.finish_reason, ended.logprobs) == ("stop", free.logprobs[: place + 1])


@pytest.mark.slow
def test_vllm_ends_a_reply_at_the_same_tokens(saved: Path, tmp_path: Path) -> None:
    config = pytest.importorskip("vllm.transformers_utils.config")
    from mica_ray.rollout.vllm.replies import sampling_params  # the parameters of every request

    folder = copied(saved, tmp_path)
    for ends in ([2, 7, 11], 9):
        rewrite(folder, "generation_config.json", ends)
        template = ChatTemplate.from_folder(folder)
        params = sampling_params(Sampling(), list(template.stop_ids), 8, None)
        listed = config.try_get_generation_config(str(folder), trust_remote_code=False)
        params.update_from_generation_config(listed.to_diff_dict(), END)
        assert params.all_stop_token_ids == set(template.stop_ids)
