"""EMPA: the benchmark's rules with the axes, rubric and prompts of emotional support.

It has no scenarios of its own; a run names a folder of cards (empa/cards.py).
"""

from __future__ import annotations

from dataclasses import replace

from mica_ray.dialogue.progress import ProgressRules
from mica_ray.domains import emotional_support

# The prompts are those of emotional support in all its languages; replace them here for this domain only.
# The tolerance a is 0.1 as in the released runs; their code has 0.05.
EMPA = replace(
    emotional_support.EMOTIONAL_SUPPORT,
    name="empa",
    rules=ProgressRules(max_turns=45, check_from=12, tolerance=0.1),
    scenarios=(),
    shows_needs=False,
)
