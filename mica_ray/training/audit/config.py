"""Settings of the audit, the section `audit` of a run's config."""

from __future__ import annotations

from dataclasses import dataclass, field

from mica_ray.checks import above, at_least
from mica_ray.training.audit.alarm import AlarmRule


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """How often training dialogues are judged a second time, by `roles.audit_judge`."""

    sample: int = 8
    """Dialogues that the audit judge scores per audit, from different scenarios as far as possible."""
    every: int = 1
    """Steps between audits."""
    probe_every: int = 5
    """Steps between probes of the training judge, the first step included; 0 never probes."""
    deadline_seconds: float = 600.0
    """Longest duration of an audit. It runs beside the update; later answers are left out and counted."""
    alarm: AlarmRule = field(default_factory=AlarmRule)
    stop_on_alarm: bool = False
    """Whether an alarm stops the run after its step; it can be resumed."""

    def __post_init__(self) -> None:
        """Check the counts and the deadline."""
        at_least(1, sample=self.sample, every=self.every)
        at_least(0, probe_every=self.probe_every)
        above(0, deadline_seconds=self.deadline_seconds)
