"""How the 100 test profiles of SAGE, which are RLVER's too, are known: by id and by what their scene tells.

Digests only: neither an id nor a word of them stands here.
"""

from __future__ import annotations

import hashlib

NUM_TEST_PROFILES = 100


def is_test_profile(profile_id: str, scene: str) -> bool:
    """Say whether a profile is one of the benchmark's, under its own id or under another."""
    return _digest(profile_id) in _IDS or _digest(scene) in _SCENES


def _digest(text: str) -> str:
    """Give eight hex digits of a text without its white space."""
    return hashlib.blake2b("".join(text.split()).encode("utf-8", "replace"), digest_size=4).hexdigest()


_IDS = frozenset(
    """
03de7566 03e608c5 05575855 088179e8 0d9800ce 10817b29 11c242e4 16b8140f 183a523e 1af3f4e7 1d1d1454 2179f3b8
2a9e8863 2b13822d 2c2a369a 2d07c05a 3292440c 33f03fdc 3498fa6d 35944dd3 370a00e6 376b5da5 384586e5 3884296d
3dac74b3 3f998a1c 41514c87 429a3bc5 439dfdfc 4886c219 49a0160d 4efa25d5 4f42818f 519676cb 51eb4f75 53f13089
5458f53e 57f95d08 5850f98d 58b7dd05 58fa49b0 5a4d0dfe 5db8c07c 6d236365 6e5761a1 6e9ea525 709989e4 75ba30d8
791da5c4 7a580e94 7a6a9f9a 80237541 80ebb488 816254b4 828c528d 840239b7 854c2f15 859f4ba4 88438edb 884b960d
907f8b12 90e2e800 91b9484a 9233bae9 94ed40d6 98e11aaf a0ef1a4f a8d96b09 aa324a36 aa41db55 aaee0ba1 ac402e15
b25cc371 b83ac00f bbf681b6 c0d04664 c3c78c57 c4cc5385 c72a144c cc545cf9 cc90fa1e cc9ae500 cd6ccb0a cf8480c3
d077b97c d1ac8287 d791e2a1 d874af58 d8c6d55a da5137bb db7e6089 dec38735 e42dd092 e599c190 e7cdefb0 e9630c59
eb741217 f20d0a66 f5a6df66 ff633398
""".split()
)
_SCENES = frozenset(
    """
02c5baf5 0383ab5c 039fc524 08f3abe2 0a0f95e5 0b695328 0bdbbba0 0f94795c 1095636c 128f9563 18e414c5 1a6b37b0
1af252ac 1dafb962 225e2a9c 2467fda8 2504418f 2719cebb 28c81296 28fd4518 2d36d4f0 2ecdd57c 324ba1b6 32d4ce59
32db227b 35affe47 3657877c 37dd8147 38200d20 395994c2 3d59e053 48a74248 48af9ed3 4a316ab2 4af0dc60 4c5018cb
4edfee69 5069067d 53749b53 5b6e8033 5d6baeae 630df610 66f232ed 6735e110 67396459 69f8281b 6a2c4da3 75877a1a
75fc6455 766d3d43 8242d247 84dfe550 875dd4fe 876aa665 8bc9921d 8bdab682 8d22f256 947823c4 96e5e095 9a4931d8
9a7ec1e1 9b8146ee 9e04de0a 9ee448d5 a015216d a8c42813 ab4aa207 acaeeead accd6c27 b071ec8f b3181a2b b473833e
b5b4a266 b7ec6665 b90ce568 bb0b1b7e bf805d03 bfd270f9 cc231811 cde6ece3 cf0bd909 d03b7997 d112eba5 d13924ed
d65ecc13 d881f117 d965b863 dd12e87c de5b79b2 e16f92d4 e27cd410 e5c455ae eeedc5e0 eff10d30 f493cdf2 f5180b94
f840b86f fbfc35ca fe1bfa37 ff0e27ce
""".split()
)
