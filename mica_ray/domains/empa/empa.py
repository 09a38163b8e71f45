"""EMPA: the benchmark's rules over the axes, rubric and prompts of emotional support.

It has no scenarios of its own: they are the cards that a run names (epm_cards.py).
"""

from __future__ import annotations

from dataclasses import replace

from mica_ray.dialogue.progress import ProgressRules
from mica_ray.domains import emotional_support

# The prompts, in every language they are written in, are those of emotional support: the one place to
# give this domain others. The released runs were made with a = 0.1, their code says 0.05.
EMPA = replace(
    emotional_support.EMOTIONAL_SUPPORT,
    name="empa",
    rules=ProgressRules(max_turns=45, check_from=12, tolerance=0.1),
    scenarios=(),
)
