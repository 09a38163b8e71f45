"""Texts that break programs which take text for harmless, and a strategy for all others."""

from __future__ import annotations

from hypothesis import strategies as st

HALF = "\ud83d"
TEXTS = (
    HALF, "\ude22\ud83d", "a\ud800b\udfffc", "\x00", "a\x00b", "a\u2028b\u2029c\x85d",
    "\x0b\x0c\x1c\x1d\x1e\x1f", "\r", "\ufeff", "\ufffe\uffff", "\U0010ffff", "\u202eabc\u2066",
    "\x1b[31mred\x1b]0;t\x07", "e\u0301" * 50, "\u200d\u200b", "[/bold][link=x]", ":smile:", "$\\frac{1}$",
    "\\input{x}", "</script><script>alert(1)</script>", "{{ 7 * 7 }}", "{0}%s%(x)s", "../../etc", "|a|b|",
    '"quoted"', "'", "`x`", "# title", "=1+1", "\\ud83d", "\\", "\U0001f469\u200d\U0001f467", "难过",
)  # fmt: skip
ALL_AT_ONCE = " ".join(TEXTS)
ANY_TEXT = st.lists(
    st.one_of(
        st.integers(0, 0x10FFFF),
        st.integers(0xD800, 0xDFFF),  # halves of surrogate pairs
        st.sampled_from([0, 0x85, 0x2028, 0x2029, 0xFEFF, *range(32)]),
        st.sampled_from([ord(mark) for mark in "[]$\\{}<>&|%:/#~^_\"'"]),
    ),
    max_size=12,
).map(lambda points: "".join(map(chr, points)))
