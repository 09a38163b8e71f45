"""A stream is cut by the pace of earlier replies."""

from __future__ import annotations

import pytest

from mica_ray.rollout.reply_pace import ReplyPace


def test_pieces_follow_the_pace_of_the_replies_that_ended() -> None:
    pace = ReplyPace()
    assert pace.tokens_in(0.1) == pace.tokens_in(10.0) == 4  # No reply was measured yet.
    pace.add(50, seconds=0.5)
    assert [pace.tokens_in(seconds) for seconds in (0.0, 0.1, 0.25, 100.0)] == [1, 10, 25, 64]
    pace.add(50, seconds=1.0)  # Half as fast: 100 + 0.2 * (50 - 100) tokens a second.
    assert pace.tokens_in(0.1) == 9


@pytest.mark.parametrize(("num_tokens", "seconds"), [(0, 0.0), (0, 1.0), (5, 0.0)])
def test_replies_of_one_piece_say_nothing(num_tokens: int, seconds: float) -> None:
    pace = ReplyPace()
    pace.add(40, seconds=2.0)
    pace.add(num_tokens, seconds)
    assert pace.tokens_in(0.5) == 10
