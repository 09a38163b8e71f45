"""Keys are checked where they are read, and secrets are redacted from texts, logs and errors."""

from __future__ import annotations

import json
import logging
import pickle
import secrets as random_secrets
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mica_ray.chat.model import ChatError
from mica_ray.config import ConfigError, RunConfig
from mica_ray.config.overrides import override
from mica_ray.error_lines import first_line, last_line
from mica_ray.secrets import (
    FRAGMENT_LENGTH,
    checked_key,
    looks_like_key,
    read_key,
    redact,
    register_environment,
    register_url,
)

KEY = "sk-test-Zq7Xw2Rv9Lk4"


@pytest.mark.parametrize("padding", ["\r", "\n", "\r\n", " ", "\t", "\u00a0", "\x0b", " \r\n "])
def test_white_space_around_a_key_is_stripped(padding: str) -> None:
    assert read_key({"K": KEY + padding}, "K") == KEY
    assert read_key({"K": padding + KEY}, "K") == KEY


@pytest.mark.parametrize(
    ("character", "kind"),
    [
        (" ", "a space (U+0020)"), ("\t", "a control character (U+0009)"),
        ("\r", "a control character (U+000D)"),
        ("\n", "a control character (U+000A)"), ("\x7f", "a control character (U+007F)"),
        ("\x1b", "a control character (U+001B)"), ("\u200b", "an invisible character (U+200B)"),
        ("\u200d", "an invisible character (U+200D)"), ("\u2060", "an invisible character (U+2060)"),
        ("\ufeff", "an invisible character (U+FEFF)"), ("\u00ad", "an invisible character (U+00AD)"),
        ("\u202e", "an invisible character (U+202E)"), ("\u00a0", "a space (U+00A0)"),
        ("ё", "a non-ASCII character (U+0451)"), ("–", "a non-ASCII character (U+2013)"),
        ("\ud800", "a non-ASCII character (U+D800)"),
    ],
)  # fmt: skip
def test_character_inside_a_key_is_named_with_its_position(character: str, kind: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_key({"MY_KEY": KEY[:8] + character + KEY[8:]}, "MY_KEY")
    assert str(caught.value).startswith(f"MY_KEY contains {kind} at position 9 of 21.")
    assert KEY[:8] not in str(caught.value) and KEY[8:] not in str(caught.value)


@pytest.mark.parametrize("character", ["\u200b", "\ufeff", "\u2060"])
def test_invisible_character_at_an_end_is_named(character: str) -> None:
    with pytest.raises(ValueError, match="at position 21 of 21"):
        checked_key(KEY + character, "K")
    with pytest.raises(ValueError, match="at position 1 of 21"):
        checked_key(character + KEY, "K")


@pytest.mark.parametrize(
    ("value", "problem"),
    [("", "K is not set"), (" \n", "K contains only white space"), (f'"{KEY}"', "K is in quotation marks")],
)
def test_value_that_is_no_key_names_the_variable(value: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_key({"K": value}, "K")


def test_text_around_a_secret_stays() -> None:
    checked_key(KEY, "K")
    assert redact(f"before {KEY} after") == "before [redacted] after"
    assert redact(f"{KEY}{KEY}") == "[redacted]"
    assert redact("nothing to hide") == "nothing to hide"


@pytest.mark.parametrize(
    "text",
    [
        KEY[:8], KEY[-8:], KEY[: len(KEY) // 2], KEY[len(KEY) // 2 :], f"b'Bearer {KEY}\\r'", repr(KEY),
        json.dumps({"k": KEY}), quote(KEY), f"?key={KEY}&x", f"{KEY[:5]}{'*' * 9}{KEY[-4:]}", f"<b>{KEY}</b>",
        f"{KEY[:4]}...{KEY[-4:]}", f"{KEY[:7]}…", f"****{KEY[-4:]}", f"{KEY[:3]}••••{KEY[-2:]}",
        f"Authorization: Bearer {KEY}",
    ],
)  # fmt: skip
def test_part_of_a_secret_is_redacted(text: str) -> None:
    checked_key(KEY, "K")
    clean = redact(text)
    assert "[redacted]" in clean
    for length in range(3, len(KEY)):
        assert KEY[:length] not in clean and (length < 4 or KEY[-length:] not in clean)


@pytest.mark.parametrize("length", [FRAGMENT_LENGTH - 1, FRAGMENT_LENGTH])
def test_fragment_of_eight_characters_is_redacted_and_of_seven_not(length: int) -> None:
    checked_key(KEY, "K")
    assert redact(f"({KEY[3 : 3 + length]})") == (
        "([redacted])" if length == FRAGMENT_LENGTH else f"({KEY[3:10]})"
    )


@given(st.text(), st.text())
def test_no_text_around_a_key_protects_it(before: str, after: str) -> None:
    checked_key(KEY, "K")
    assert KEY[:8] not in redact(before + KEY + after)


@pytest.mark.parametrize("word", ["key", "none", "any", "EMPTY", "dummy", "secret"])
def test_word_in_place_of_a_key_is_not_redacted(word: str) -> None:
    checked_key(word, "K")
    assert redact(f"The {word} is wrong.") == f"The {word} is wrong."


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://ann:pw@host/v1", "https://[redacted]@host/v1"),
        ("http://token@host", "http://[redacted]@host"),
        ("socks5://ann:p%40w@host:1", "socks5://[redacted]@host:1"),
        ("postgresql+psycopg2://u:p@db/x", "postgresql+psycopg2://[redacted]@db/x"),
        ("see https://host/@user and a@b.c", "see https://host/@user and a@b.c"),
        ("Authorization: Bearer abc123def456", "Authorization: Bearer [redacted]"),
        ("bearer abc123def456;", "bearer [redacted];"),
        ("Authorization: Basic YW5uOnB3MQ==", "Authorization: Basic [redacted]"),
        ("Send Authorization: Bearer KEY.", "Send Authorization: Bearer KEY."),
        ('{"k": "sk-abcdef0123456789"}', '{"k": "[redacted]"}'),
        ("hf_abcdef0123456789 AIzaabcdef0123456789", "[redacted] [redacted]"),
        ("sk-qzjxkvwqpzmrtbq", "sk-qzjxkvwqpzmrtbq"),  # One character too short for a key.
        ("ask-me-about-something-long", "ask-me-about-something-long"),
    ],
)
def test_logins_of_addresses_and_headers_need_no_registration(text: str, clean: str) -> None:
    assert redact(text) == clean


def test_secrets_of_the_environment_are_known_by_their_names() -> None:
    made = {
        name: random_secrets.token_hex(12) for name in ("A_TOKEN", "B_API_KEY", "MLFLOW_TRACKING_PASSWORD")
    }
    ordinary = {"HOME": "/home/somebody-12345", "TLS_KEY": __file__, "P": "http://u:pw-48151623@proxy:1"}
    register_environment(made | ordinary)
    assert redact(__file__) == __file__
    assert redact(" ".join(made.values())) == "[redacted] [redacted] [redacted]"
    assert redact("/home/somebody-12345 pw-48151623") == "/home/somebody-12345 [redacted]"


def test_password_of_an_address_is_a_secret_everywhere() -> None:
    register_url("mysql://ann:hunter-22222@db/runs")
    assert redact("Access denied with hunter-22222") == "Access denied with [redacted]"


def test_errors_are_redacted_and_survive_pickling() -> None:
    checked_key(KEY, "K")
    error = ChatError(f"judge: {KEY} is wrong", kind="refused", endpoint=f"at {KEY}")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.endpoint) == ("judge: [redacted] is wrong", "at [redacted]")
    assert KEY.encode() not in pickle.dumps(error)
    assert first_line(ValueError(f"a {KEY}\nb")) == "a [redacted]"
    assert last_line(ValueError(f"a\nb {KEY}")) == "b [redacted]"


def test_log_records_are_redacted_with_arguments_and_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    checked_key(KEY, "K")
    log, handler = logging.getLogger("tests.secrets"), logging.StreamHandler()
    log.addHandler(handler)
    try:
        raise ValueError(f"inside {KEY}")
    except ValueError:
        log.exception("Headers %s of %d", {"Authorization": f"Bearer {KEY}"}, 3)
    finally:
        log.removeHandler(handler)
    written = capsys.readouterr().err
    assert "Headers" in written and "ValueError: inside [redacted]" in written and " of 3" in written
    assert KEY[:8] not in written and KEY[-8:] not in written


def test_key_in_place_of_a_name_is_recognized() -> None:
    assert looks_like_key("Ab3Ab3Ab3Ab3Ab3Ab3Ab")
    assert not looks_like_key("Ab3Ab3Ab3Ab3Ab3Ab3A")  # 19 characters
    assert not looks_like_key("OPENAI_API_KEY_of_Ann_2")


@pytest.mark.parametrize(
    ("address", "is_refused"),
    [
        ("http://ann:open-sesame-42@host:5000", True), ("https://token-123456@host", True),
        ("postgresql://ann:open-sesame-42@db/x", True), ("postgresql://ann@db/x", False),
        ("http://host:5000", False), ("sqlite:////folder/a@b:c.db", False),
    ],
)  # fmt: skip
def test_tracking_store_with_a_login_is_refused_because_the_config_is_stored(
    address: str, is_refused: bool
) -> None:
    if not is_refused:
        assert override(RunConfig(), [f"tracking_uri={address}"]).tracking_uri == address
        return
    with pytest.raises(ConfigError, match="tracking_uri: the address must not contain a login") as caught:
        override(RunConfig(), [f"tracking_uri={address}"])
    assert "sesame" not in str(caught.value) and "token-1" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"base_url": "https://ann:open-sesame-42@host/v1"}, {"base_url": "https://open-sesame-42@host/v1"},
        {"base_url": "https://host/v1?key=open-sesame-42"},
        {"base_url": "https://host/v1?api-key=open-sesame-42"}, {"api_key_env": "open-sesame-42"},
        {"api_key_env": "sk-proj-open-sesame-42"},
        {"extra_body": {"api_key": "open-sesame-42"}},
        {"base_url": "https://host/v1", "api_key_env": "Q7hX2mV9tB4wL8zRopensesame"},
    ],
)  # fmt: skip
def test_key_inside_an_endpoint_s_config_is_refused_and_not_repeated(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        override(RunConfig(), [f"roles.judge={json.dumps({'model': 'm', **fields})}"])
    assert "sesame" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "is_redacted"), [("a4b7", False), ("a4b7c", True), ("abcdefg", False), ("abcdefgh", True)]
)
def test_shortest_secrets(value: str, is_redacted: bool) -> None:
    # Five characters with a digit, or eight of any kind.
    checked_key(value, "K")
    assert redact(f"<{value}>") == ("<[redacted]>" if is_redacted else f"<{value}>")
