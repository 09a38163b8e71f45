"""The cache key of an embedded policy: everything its weights follow from, listed by name.

Role prompts, personas and axis names are left out, because the scripted roles do not read them.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib import resources

from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.progress import ProgressRules
from mica_ray.embedded.recipe import EmbeddedPolicyRecipe
from mica_ray.embedded.warm_up import warm_up_stories


def policy_key(
    domain: Domain, recipe: EmbeddedPolicyRecipe, *, sources: Mapping[str, str] | None = None
) -> str:
    """Return 16 hex digits that identify the recipe, the domain's fields and the code of this folder.

    Args:
        domain: whose prompts, rules and scenarios the warm-up uses.
        recipe: size, amount of warm-up and seed.
        sources: source text of the embedded world by file name; None for the installed one.
    """
    sources = embedded_sources() if sources is None else sources
    fields = {
        "recipe": asdict(recipe),
        "domain": _domain_fields(domain),
        "code": {name: code_of(source) for name, source in sources.items()},
    }
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def embedded_sources() -> dict[str, str]:
    """Read the source files of the embedded world, by name."""
    folder = resources.files("mica_ray.embedded")
    return {file.name: file.read_text("utf-8") for file in folder.iterdir() if file.name.endswith(".py")}


def code_of(source: str) -> str:
    """Return the code of a source file without docstrings and comments, in a uniform layout.

    >>> code_of("HALF = 0.5  # a share")
    'HALF = 0.5'
    """
    return ast.unparse(_WithoutDocstrings().visit(ast.parse(source)))


class _WithoutDocstrings(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node


def _domain_fields(domain: Domain) -> dict[str, object]:
    return {
        "policy_prompt": domain.policy_prompt,
        "need_order": domain.need_order,
        "points": [(axis.progress_points, axis.regress_points) for axis in domain.axes],
        "rules": _rule_fields(domain.rules),
        "potential": None if domain.potential is None else asdict(domain.potential),
        "stories": [
            (story.topic, story.opening, story.stages, story.initial_state)
            for story in warm_up_stories(domain)
        ],
    }


def _rule_fields(rules: ProgressRules) -> dict[str, float | None]:
    """List the rules that can end a warm-up dialogue; its turn limit comes from the recipe."""
    return {
        "check_from": rules.check_from,
        "tolerance": rules.tolerance,
        "collapse_window": rules.collapse_window,
        "stall_window": rules.stall_window,
        "stall_deviation": rules.stall_deviation,
        "stall_lookback": rules.stall_lookback,
        "stall_negative_fraction": rules.stall_negative_fraction,
        "stall_energy": rules.stall_energy,
        "oscillation_window": rules.oscillation_window,
        "oscillation_distance": rules.oscillation_distance,
        "give_up_norm": rules.give_up_norm,
    }
