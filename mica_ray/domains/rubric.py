"""The judge's rubric as text, and the 18 fields in which the judge answers."""

from __future__ import annotations

from mica_ray.dialogue.domain import Axis


def judge_fields(axes: tuple[Axis, Axis, Axis]) -> tuple[str, ...]:
    """Return the judge's field names in order: six per axis, each level after its reason.

    Example: "{axis key}_{progress|regress}_{evidence|reasoning|level}".
    """
    return tuple(
        f"{axis.key}_{direction}_{part}"
        for axis in axes
        for direction in ("progress", "regress")
        for part in ("evidence", "reasoning", "level")
    )


def rubric_text(axes: tuple[Axis, Axis, Axis], *, heading: str = "Axis {key}, {name}") -> str:
    """Return the levels of every axis as text for a language model, level 0 first.

    The points of the levels are left out: the judge rates, and the domain computes the points.

    Args:
        axes: the axes of the domain.
        heading: format of the line above an axis, with {key} and {name}.
    """
    blocks: list[str] = []
    for axis in axes:
        lines = [heading.format(key=axis.key, name=axis.name)]
        lines.append(f"  {axis.key}_progress_level:")
        lines += [f"    {level}: {text}" for level, text in enumerate(axis.progress_levels)]
        lines.append(f"  {axis.key}_regress_level:")
        lines += [f"    {-level}: {text}" for level, text in enumerate(axis.regress_levels)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
