"""CheckedRun: a config that passed its checks, and everything that the checks loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mica_ray.config.run_config import RunConfig
from mica_ray.dialogue.domain import Domain
from mica_ray.evaluation.tables import CONTAMINATED
from mica_ray.launch.card_source import describe_deck
from mica_ray.launch.cost_estimate import describe_costs
from mica_ray.launch.domain_source import RunDomain
from mica_ray.launch.memory.lines import memory_lines
from mica_ray.launch.memory.machine import MachineMemory
from mica_ray.launch.memory.room import MemoryPlan, plan_memory
from mica_ray.launch.plan import Plan, describe_policy, describe_processes, describe_work
from mica_ray.launch.policy_source import PolicyFacts


@dataclass(frozen=True, slots=True)
class CheckedRun:
    """Result of `check_run`; later steps take it instead of loading anything again."""

    config: RunConfig
    inline: bool
    """Whether the run stays in this process, instead of using Ray with vLLM and DeepSpeed."""
    loaded: RunDomain
    """The domain, as declared and as played."""
    facts: PolicyFacts
    """Facts from the policy's files; for the embedded policy, those that its recipe determines."""
    served: Mapping[str, PolicyFacts] = field(default_factory=dict)
    """Facts of the models that engines serve for roles, by name."""
    machine: MachineMemory = field(default_factory=MachineMemory)
    """Memory of the machine that the run starts on."""

    @property
    def domain(self) -> Domain:
        """The domain with the scenarios and rules of the run."""
        return self.loaded.played

    @property
    def num_evaluated(self) -> int:
        """Dialogues of one evaluation."""
        evaluation = self.config.evaluation
        return len(self.domain.split(evaluation.split)[: evaluation.max_scenarios]) * evaluation.samples

    @property
    def memory(self) -> MemoryPlan:
        """The memory of the run's processes."""
        served = {name: facts.model for name, facts in self.served.items()}
        return plan_memory(self.config, self.facts.model, served, inline=self.inline, machine=self.machine)

    @property
    def plan(self) -> Plan:
        """What the run will start and need."""
        config, domain, facts = self.config, self.domain, self.facts
        counts = [f"{len(domain.split(split))} {split}" for split in ("train", "valid", "test")]
        deck = self.loaded.deck
        return Plan(
            (
                ("policy", describe_policy(config, facts)),
                ("scenarios", f"{', '.join(counts)} (domain {domain.name})"),
                *([("cards", describe_deck(deck))] if deck is not None else []),
                *([("contaminated", CONTAMINATED)] if config.contaminated else []),
                ("work", describe_work(config)),
                ("roles", describe_costs(config, domain)),
                *describe_processes(config, inline=self.inline),
                *memory_lines(config, facts.model, self.memory, inline=self.inline),
            )
        )
