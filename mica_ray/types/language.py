"""Languages by their primary subtag: "zh" for "zh-CN", "ZH", "zh_Hans" and "中文"."""

from __future__ import annotations

import re
import unicodedata

LANGUAGES = ("en", "zh")
"""Languages in which the built-in prompts and the roles' instructions exist."""

_NAMES = {
    "en": "eng english 英文 英语 英語",
    "zh": "zho chi cmn chinese mandarin 中文 汉语 漢語 普通话 普通話 国语 國語 华语 華語 简体中文 繁体中文 "
    "簡體中文 繁體中文 简体 繁体 簡體 繁體 chs cht",
}
"""Other codes of a language (ISO 639-2, ISO 639-3) and its names."""
_CODES = {name: code for code, names in _NAMES.items() for name in names.split()}
_SEPARATORS = re.compile(r"[-‐–—−_.@,;:/()\s]+")
_VARIETIES = frozenset({"simplified", "traditional", "american", "british", "us", "uk"})
"""Words in front of the name of a language."""


def primary_language(tag: str) -> str:
    """Return the primary subtag of a language tag (BCP 47) or locale, in lower case.

    A name of a supported language counts as its tag. Any other text without a subtag is returned as it is.

    >>> [primary_language(tag) for tag in ("zh-CN", "ZH", "zh_Hans_CN", "中文", "en_US.UTF-8", "fr-CA")]
    ['zh', 'zh', 'zh', 'zh', 'en', 'fr']
    """
    plain = unicodedata.normalize("NFKC", tag).strip().casefold()
    parts = [part for part in _SEPARATORS.split(plain) if part]
    if len(parts) == 2 and parts[0] in _VARIETIES and parts[1] in _CODES:
        parts = parts[1:]
    first = next(iter(parts), "")
    return _CODES.get(first, first)
