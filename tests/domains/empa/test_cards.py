"""Cards in the benchmark's layout: what is read, what is refused, and who may train on whom."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mica_ray.domains.empa import EMPA
from mica_ray.domains.empa.card_text import read_card_text
from mica_ray.domains.empa.cards import CardError, near_test_cards, read_cards
from mica_ray.domains.empa.official import OFFICIAL_IDS, official_case
from tests.domains.empa.card_folder import (
    LEVELS,
    card,
    name,
    real_cards,
    story,
    tale,
    write_cards,
    write_stories,
)


def test_card_becomes_a_scenario_in_its_own_words(tmp_path: Path) -> None:
    (scenario,) = read_cards(write_cards(tmp_path / "d", [1])).scenarios("empa")
    assert (scenario.id, scenario.language, scenario.opening) == ("script_9001", "zh", "")
    assert scenario.initial_state == (-17.0, -18.0, -13.0)
    assert scenario.stages == story(1)
    assert scenario.topic == tale(1, "topic")
    # The deepest axis is A (-18); the norm sqrt(17^2 + 18^2 + 13^2) = 27.97 lies between 27.8 and 32.3.
    assert (scenario.dominant_axis, scenario.difficulty) == ("A", "中等")
    for words in ("说话慢", "先说一半", "共情阈值【高】", "[高优先级", "修表铺", "傍晚下了雨"):
        assert words in scenario.persona


def test_threshold_and_priorities_are_read() -> None:
    text, flaws = read_card_text(card(1).encode(), "one.md")
    assert text is not None and flaws == ()
    assert (text.threshold, text.priorities) == ("high", {"C": "mid", "A": "high", "P": "low"})


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("情感共情：【中】\n动机共情：【最高优先级】\n认知共情：[优先级：极低]", ("low", "mid", "high")),
        ("情感共情：最高\n认知共情：[核心优先级]\n动机共情：次要", ("mid", "high", "low")),
        ("2. 情感共情：其次\n1. 动机共情：最希望\n3. 认知共情：说明", ("low", "mid", "high")),
        ("认知共情 > 情感共情 > 动机共情。首先", ("high", "mid", "low")),
    ],
)
def test_priorities_are_read_in_every_form_that_cards_use(stated: str, expected: tuple[str, ...]) -> None:
    text, _ = read_card_text(card(1, priorities=stated).encode(), "one.md")
    assert text is not None
    assert tuple(text.priorities[axis] for axis in "CAP") == expected


def test_scenario_has_the_priorities_of_its_card(tmp_path: Path) -> None:
    scenario = read_cards(write_cards(tmp_path, (1,))).cards[0].scenario("empa")
    assert scenario.priorities == ("mid", "high", "low")
    assert EMPA.priorities(scenario) == {"C": "mid", "A": "high", "P": "low"}
    # A card that grades two needs leaves the third open; one that grades none has the domain's order A, C, P.
    assert EMPA.priorities(replace(scenario, priorities=("", "high", "low"))) == {"A": "high", "P": "low"}
    assert EMPA.priorities(replace(scenario, priorities=())) == {"A": "high", "C": "mid", "P": "low"}


def test_card_without_a_priority_loads_and_is_odd() -> None:
    text, flaws = read_card_text(card(1, priorities="情感共情：高\n认知共情：中").encode(), "one.md")
    assert text is not None
    assert [str(flaw) for flaw in flaws] == [
        "one.md: axis priorities: no priority is given for axis P; grade 动机共情 高, 中 or 低"
    ]
    assert not flaws[0].is_fatal


def test_card_without_a_known_state_is_no_scenario(tmp_path: Path) -> None:
    deck = read_cards(write_cards(tmp_path / "d", [1, 2], rated=[2]))
    assert [item.id for item in deck.scenarios("empa")] == [name(2)]
    with pytest.raises(CardError, match=r"script_9001.md: P_0 is unknown. Rate the card"):
        deck.cards[0].scenario("empa")
    nobody = read_cards(write_cards(tmp_path / "n", [1], rated=[]))
    with pytest.raises(CardError, match="no card has a known P_0"):
        nobody.scenarios("empa")


MALFORMED: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (
        lambda d: (d / "cards/script_9001.md").write_text(" \n"),
        "cards/script_9001.md: text: the file is empty; ",
    ),
    "encoding": (
        lambda d: (d / "cards/script_9001.md").write_bytes(card(1).encode("gb18030")),
        "cards/script_9001.md: encoding: is not UTF-8 (byte ",
    ),
    "section": (
        lambda d: (d / "cards/script_9001.md").write_text(card(1).replace("<experience>", "")),
        "cards/script_9001.md: experience: the section is missing; put it between <experience> and ",
    ),
    "heading": (
        lambda d: (d / "cards/script_9001.md").write_text(card(1).replace("# 角色现状", "")),
        "cards/script_9001.md: experience/角色现状: is missing or empty; write it below # 角色现状",
    ),
    "threshold": (
        lambda d: (d / "cards/script_9001.md").write_text(card(1).replace("【高】", "")),
        "cards/script_9001.md: empathy_threshold: names no level; ",
    ),
    "story": (lambda d: write_stories(d, [2]), "character_stories.json: script_9001: the story is missing; "),
    "no stories": (
        lambda d: (d / "character_stories.json").unlink(),
        "character_stories.json: text: contains no stories; ",
    ),
    "stage": (
        lambda d: (d / "character_stories.json").write_text(
            (d / "character_stories.json").read_text().replace(story(1)[2], " ")
        ),
        "character_stories.json: script_9001.故事的经过.阶段3.内容: is missing or empty; ",
    ),
    "official": (
        lambda d: (d / "official_cases.txt").write_text("script_9001\nscript_9007\n"),
        "official_cases.txt: script_9007: has no card; add cards/script_9007.md or ",
    ),
    "level": (
        lambda d: (d / "official30_iedr.json").write_text(
            json.dumps({name(1): {"P_0": None, "iedr": {"filled_iedr": {**LEVELS, "A.2": 4}}}})
        ),
        "official30_iedr.json: script_9001.A.2: the level must be 0, 1, 2 or 3; got 4; ",
    ),
    "P_0": (
        lambda d: (d / "official30_iedr.json").write_text(
            json.dumps({name(1): {"P_0": [-1, -18, -13], "iedr": {"filled_iedr": LEVELS}}})
        ),
        "official30_iedr.json: script_9001.P_0: is [-1, -18, -13], but the levels give [-17, -18, -13]; ",
    ),
    "json": (
        lambda d: (d / "case_metadata.json").write_text("{"),
        "case_metadata.json: text: cannot be read (",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_folder_is_refused_by_one_line_with_file_field_and_remedy(
    tmp_path: Path, kind: str
) -> None:
    folder = write_cards(tmp_path / "d", [1, 2])
    change, line = MALFORMED[kind]
    change(folder)
    deck = read_cards(folder)
    assert any(str(flaw).startswith(line) for flaw in deck.fatal), [str(flaw) for flaw in deck.fatal]
    with pytest.raises(CardError) as caught:
        deck.scenarios("empa")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weakly_matched_levels_are_other_persons_and_not_used(tmp_path: Path) -> None:
    folder = write_cards(tmp_path / "d", [1], rated=[])
    entry = {"new_id": name(1), "overlap": 0.45, "P_0": [-17, -18, -13], "iedr": LEVELS}
    (folder / "iedr_236_cases.json").write_text(json.dumps({"script_5": entry}))
    deck = read_cards(folder)
    assert deck.cards[0].given is None
    assert "below 0.6" in str(deck.flaws[-1]) and not deck.fatal


def test_ratings_count_only_for_the_text_they_rated(tmp_path: Path) -> None:
    folder = write_cards(tmp_path / "d", [1, 2], rated=[])
    digests = {item.id: item.digest for item in read_cards(folder).cards}
    lines = [
        {"script_id": name(1), "digest": digests[name(1)], "levels": LEVELS, "P_0": [-17, -18, -13]},
        {"script_id": name(2), "digest": "another", "levels": LEVELS, "P_0": [-17, -18, -13]},
    ]
    for place in (folder / "rated_iedr.jsonl", tmp_path / "elsewhere.jsonl"):
        place.write_text("\n".join(map(json.dumps, lines)) + '\n{"script_id": "scr')
        deck = read_cards(folder, ratings=place)
        assert [item.given is not None for item in deck.cards] == [True, False]
        assert not deck.fatal
    assert [item.given is not None for item in read_cards(folder).cards] == [True, False]


def test_official_cards_are_test_and_the_split_follows_the_id_alone(tmp_path: Path) -> None:
    deck = read_cards(write_cards(tmp_path / "d", range(8), official=[3]))
    fewer = read_cards(write_cards(tmp_path / "e", range(2, 6), official=[3]))
    splits = {item.id: item.split for item in deck.scenarios("empa")}
    assert [item for item, split in splits.items() if split == "test"] == [name(3)]
    assert {item.id: item.split for item in fewer.scenarios("empa")}.items() <= splits.items()
    with_test = deck.scenarios("empa", allow_test_cards=True)
    assert Counter(item.split for item in with_test if item.id == name(3)) == {"test": 1, "train": 1}


def test_copy_of_a_test_case_under_another_id_is_in_no_split(tmp_path: Path) -> None:
    folder = write_cards(tmp_path / "d", [1, 2], official=[1])
    # Card 2 gets the text of card 1, who is called otherwise.
    (folder / "cards" / f"{name(2)}.md").write_text(card(1).replace("小1", "阿远"))
    deck = read_cards(folder)
    assert {item.id: item.copied_case for item in deck.cards} == {name(1): "", name(2): name(1)}
    assert [item.id for item in deck.scenarios("empa")] == [name(1)]
    assert any(
        str(flaw).startswith("cards/script_9002.md: text: copies the test case") for flaw in deck.flaws
    )
    (near,) = near_test_cards(deck)
    assert (near.name, near.reference, near.shared_fraction, near.is_duplicate) == (
        name(2),
        name(1),
        1.0,
        True,
    )
    trained = [item.id for item in deck.scenarios("empa", allow_test_cards=True) if item.split == "train"]
    assert trained == [name(1), name(2)]


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"nowhere: contains no cards/\*.md. Name the folder above the cards"):
        read_cards(tmp_path / "nowhere")


def test_domain_plays_by_the_released_rules() -> None:
    assert (EMPA.rules.check_from, EMPA.rules.max_turns, EMPA.rules.tolerance) == (12, 45, 0.1)
    assert [axis.points(0, -2) for axis in EMPA.axes] == [-4.0, -5.0, -5.0]


def test_all_published_cards_load_and_the_official_ones_begin_as_recorded() -> None:
    place = real_cards()
    deck = read_cards(place)
    assert len(deck.cards) == 1010
    assert deck.fatal == ()
    near = near_test_cards(deck)
    assert 0.05 < near[0].shared_fraction < 0.1 and not any(item.copied_case for item in deck.cards)
    recorded = json.loads((place / "official30_iedr.json").read_text())
    cases = {
        item["script_id"]: item
        for item in json.loads((place / "case_metadata.json").read_text())["sampled_cases"]
    }
    tested = {item.id: item for item in deck.scenarios("empa") if item.split == "test"}
    assert set(tested) == set(recorded) == set(cases) == OFFICIAL_IDS
    for item in tested.values():
        assert list(item.initial_state) == recorded[item.id]["P_0"]
        assert math.hypot(*item.initial_state) == pytest.approx(cases[item.id]["distance"], abs=0.005)
    # The rules for cards that no list speaks of give back what the list says of those it does.
    unlisted = [
        dataclasses.replace(item, listed_axis="", listed_difficulty="")
        for item in deck.cards
        if item.is_official
    ]
    for item in unlisted:
        assert (item.dominant_axis, item.difficulty) == (
            cases[item.id]["dominant_axis"],
            cases[item.id]["difficulty"],
        )


def test_official_texts_are_recognised_under_any_name_and_nobody_else_is() -> None:
    scenarios = read_cards(real_cards()).scenarios("empa")
    renamed = {item.id: official_case(dataclasses.replace(item, id="mine")) for item in scenarios}
    assert {item: known for item, known in renamed.items() if known} == {item: item for item in OFFICIAL_IDS}
    for item in scenarios:
        if item.id in OFFICIAL_IDS:
            only_story = dataclasses.replace(item, id="mine", persona="", topic="")
            only_card = dataclasses.replace(item, id="mine", stages=())
            assert (official_case(only_story), official_case(only_card)) == (item.id, item.id)


def test_files_left_by_systems_and_editors_are_no_cards(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_cards(tmp_path / "d", [1, 2])
    (folder / "cards" / f"{name(2)}.md").rename(folder / "cards" / f"{name(2)}.MD")
    (folder / "character_stories.json").rename(folder / "Character_Stories.JSON")
    for left in (f"._{name(1)}.md", f"~${name(1)}.md", f".#{name(1)}.md", f"{name(1)}.md.swp", ".DS_Store"):
        (folder / "cards" / left).write_bytes(b"\x00\x05\x16\x07")
    deck = read_cards(folder)
    assert ([card.id for card in deck.cards], deck.flaws) == ([name(1), name(2)], ())
    assert f"._{name(1)}.md" in caplog.text


def test_duplicates_are_fatal_and_name_both_places(tmp_path: Path) -> None:
    folder = write_cards(tmp_path / "d", [1, 2, 3])
    cards = folder / "cards"
    (cards / f"{name(1)}.MD").write_text(card(4))
    # Number 3 is renamed to a second entry of number 2, and number 5 copies text and story of number 2.
    (cards / f"{name(5)}.md").write_text(card(2))
    entries = json.loads((folder / "character_stories.json").read_text())
    entries[2]["剧本编号"] = name(2)
    entries.append(entries[1] | {"剧本编号": name(5)})
    (folder / "character_stories.json").write_text(json.dumps(entries))
    cases = [{"script_id": name(1), "dominant_axis": axis} for axis in "AC"]
    (folder / "case_metadata.json").write_text(json.dumps({"sampled_cases": cases}))
    flaws = [str(flaw) for flaw in read_cards(folder).fatal]
    for expected in (
        f"cards/{name(1)}.md: file name: is the same card as cards/{name(1)}.MD",
        f"character_stories.json: {name(2)}: entries 2 and 3 have the same 剧本编号",
        f"cards/{name(5)}.md: text: has the same text and story as cards/{name(2)}.md",
        f"case_metadata.json: {name(1)}: entries 1 and 2 have the same script_id",
    ):
        assert any(flaw.startswith(expected) for flaw in flaws), (expected, flaws)


def test_key_written_twice_in_a_list_of_levels_is_fatal(tmp_path: Path) -> None:
    folder = write_cards(tmp_path / "d", [1])
    levels = (folder / "iedr_236_cases.json").read_text()
    (folder / "iedr_236_cases.json").write_text(f"{levels[:-1]}, {levels[1:]}")
    (flaw,) = read_cards(folder).fatal
    assert "the key 'old_1' occurs twice" in str(flaw)
