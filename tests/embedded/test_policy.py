"""The embedded policy is a plain model folder: made once, the same from the same recipe, never half made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.embedded.policy import _laid_out, _mixed_batches, _Row, embedded_policy
from mica_ray.embedded.policy_key import policy_key
from mica_ray.embedded.recipe import EmbeddedPolicyRecipe
from mica_ray.embedded.warm_up import naming_drills, warm_up_dialogues
from mica_ray.types import Message

RECIPE = EmbeddedPolicyRecipe(
    num_dialogues=12,
    num_turns=(1, 2),
    num_drills=8,
    vocabulary_size=300,
    hidden_size=32,
    num_layers=1,
    num_heads=1,
    num_threads=1,
    batch_size=4,
)


def dialogues() -> list[list[Message]]:
    return warm_up_dialogues(
        EMOTIONAL_SUPPORT, seed=RECIPE.seed, num_dialogues=RECIPE.num_dialogues, num_turns=RECIPE.num_turns
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def made(cache: Path) -> Path:
    return embedded_policy(EMOTIONAL_SUPPORT, cache, recipe=RECIPE)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_folder_loads_as_any_model_folder_and_speaks_the_chat_form(made: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(made)
    model = AutoModelForCausalLM.from_pretrained(made)
    messages = [{"role": "user", "content": "It is my exam, ça va 🙂"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nIt is my exam, ça va 🙂<|im_end|>\n<|im_start|>assistant\n"
    token_ids = tokenizer.encode(text)
    assert tokenizer.decode(token_ids) == text
    assert (
        tokenizer.convert_tokens_to_ids("<|im_end|>") == tokenizer.eos_token_id == model.config.eos_token_id
    )
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    logits = model(input_ids=torch.tensor([token_ids])).logits
    assert logits.shape == (1, len(token_ids), len(tokenizer)) and logits.isfinite().all()


def test_second_call_gives_the_cached_folder_without_making(made: Path, cache: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in (made, *made.iterdir())}
    told: list[str] = []
    again = embedded_policy(
        EMOTIONAL_SUPPORT, cache, recipe=RECIPE, report=lambda stage, share: told.append(stage)
    )
    assert (again, told) == (made, [])
    assert {file: file.stat().st_mtime_ns for file in (made, *made.iterdir())} == before


def test_same_recipe_gives_the_same_bytes_and_another_seed_another_folder(made: Path, tmp_path: Path) -> None:
    again = embedded_policy(EMOTIONAL_SUPPORT, tmp_path, recipe=RECIPE)
    assert (again.name, contents(again)) == (made.name, contents(made))
    other = embedded_policy(EMOTIONAL_SUPPORT, tmp_path, recipe=replace(RECIPE, seed=1))
    assert other.name != again.name
    assert contents(other)["model.safetensors"] != contents(again)["model.safetensors"]


@pytest.mark.parametrize("stage", ["warm-up dialogues", "warm-up, loss"])
def test_interrupted_making_leaves_nothing_behind(stage: str, tmp_path: Path) -> None:
    def interrupt(said: str, share: float) -> None:
        if said.startswith(stage):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embedded_policy(EMOTIONAL_SUPPORT, tmp_path, recipe=RECIPE, report=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_leftover_of_a_killed_making_is_not_taken_for_a_policy(tmp_path: Path) -> None:
    # A killed process removes nothing: its scratch stays, and perhaps an empty folder in the policy's place.
    place = tmp_path / f"embedded-policy-{policy_key(EMOTIONAL_SUPPORT, RECIPE)}"
    (tmp_path / "embedded-policy-x1y2z3").mkdir()
    place.mkdir()
    made = embedded_policy(EMOTIONAL_SUPPORT, tmp_path, recipe=RECIPE)
    assert made == place
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(contents(made))


def test_progress_is_told_from_nothing_to_nearly_done(tmp_path: Path) -> None:
    shares: list[float] = []
    embedded_policy(
        EMOTIONAL_SUPPORT, tmp_path, recipe=RECIPE, report=lambda stage, share: shares.append(share)
    )
    assert shares[0] == 0.0
    assert shares == sorted(shares) and max(shares) <= 1.0


def test_warm_up_never_meets_a_scenario_that_is_kept_for_measuring() -> None:
    talks = dialogues()
    kept = [one for split in ("valid", "test") for one in EMOTIONAL_SUPPORT.split(split)]
    said = " ".join(message["content"] for talk in talks for message in talk if message["role"] == "user")
    assert len(talks) == 12
    assert not any(text in said for one in kept for text in (one.opening, *one.stages))


def test_stories_without_topic_are_left_to_the_grammar() -> None:
    # Only the grammar's own scenarios are left: an empty topic would be put between any two letters.
    bare = replace(
        EMOTIONAL_SUPPORT, scenarios=tuple(replace(one, topic="") for one in EMOTIONAL_SUPPORT.scenarios)
    )
    talks = warm_up_dialogues(bare, seed=0, num_dialogues=4, num_turns=(1,))
    assert all(len(talk[1]["content"]) < 300 for talk in talks)


def test_warm_up_dialogues_are_what_the_policy_reads() -> None:
    for number, messages in enumerate(dialogues()):
        roles = [message["role"] for message in messages]
        assert roles == ["system", *["user", "assistant"] * (1, 2)[number % 2]]
        assert messages[0]["content"] == EMOTIONAL_SUPPORT.policy_prompt


def test_drill_hands_the_list_back_in_order_and_from_the_other_side() -> None:
    drills = naming_drills(EMOTIONAL_SUPPORT, seed=0, num_drills=20, num_topics=3)
    assert len(drills) == 20
    for system, user, assistant in drills:
        assert system["content"] == EMOTIONAL_SUPPORT.policy_prompt
        said, named = (message["content"].removesuffix(".").split(", ") for message in (user, assistant))
        assert len(said) == 3
        assert [text.replace("my ", "your ") for text in said] == named
    assert any("my " in user["content"] for _, user, _ in drills)


def test_drills_grow_rare_and_end_before_the_dialogues_do() -> None:
    # 40 batches of one dialogue, 20 of two drills, which their token identifies.
    recipe = replace(RECIPE, batch_size=1)
    rows, drills = [_Row([0], 0)] * 40, [_Row([1], 0)] * 40
    is_drill = [batch[0].token_ids == [1] for batch in _mixed_batches(rows, drills, recipe)]
    assert sum(is_drill) == 20 and len(is_drill) == 60
    assert sum(is_drill[:30]) > sum(is_drill[30:])
    assert not any(is_drill[-8:])  # The last fifth of the 40 dialogues.


def test_all_is_trained_from_the_first_reply_on_but_the_padding() -> None:
    token_ids, is_trained = _laid_out([_Row([5, 6, 7], 1), _Row([8, 9], 1)], pad_id=0)
    assert token_ids.tolist() == [[5, 6, 7], [8, 9, 0]]
    assert is_trained.tolist() == [[False, True, True], [False, True, False]]
