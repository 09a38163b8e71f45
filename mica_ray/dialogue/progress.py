"""Pure rules of progress: energy, alignment, success, collapse, stall (method of EMPA, arXiv 2603.00552)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProgressRules:
    """When a dialogue ends. The defaults are those of the EMPA code; all windows are in turns."""

    max_turns: int = 45
    check_from: int = 12
    """The first turn count at which success and failure are looked for."""
    tolerance: float = 0.05
    """a: success needs ||P_t|| <= a ||P_0|| or P_t . v* >= -a ||P_0||, together with E >= ||P_0||."""
    collapse_window: int = 5
    stall_window: int = 5
    stall_deviation: float = 0.5
    stall_lookback: int = 8
    stall_negative_fraction: float = 0.7
    stall_energy: float = -1.0
