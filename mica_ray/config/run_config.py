"""RunConfig: every part's config in one frozen value. `RunConfig()` is the embedded run on CPUs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mica_ray.chat.ledger import Budget
from mica_ray.config.overrides import build_object, describe_named, describe_object, validated
from mica_ray.config.references import ConfigError
from mica_ray.config.role_config import EMBEDDED, RoleConfig, read_roles
from mica_ray.credit import CreditEstimator, Mica
from mica_ray.dialogue.progress import ProgressRules
from mica_ray.evaluation.evaluate import EvaluationConfig
from mica_ray.losses import LossConfig
from mica_ray.rewards import Rewards
from mica_ray.rollout.collect import RolloutConfig
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.training.learner_group import RayLearnerConfig
from mica_ray.training.loop import LoopConfig
from mica_ray.training.update import LearnerConfig
from mica_ray.types import Sampling


def _check_credit(estimator: object) -> object:
    built = build_object(estimator)
    if not callable(built):
        raise ValueError(f"credit must be an estimator such as mica_ray.credit:Mica; got {built!r}")
    return built


class RunConfig(BaseModel):
    """Everything a run follows from; stored with the run as JSON, from which it can be trained again.

    The defaults are the embedded run: a small policy made here, scripted roles, minutes on two CPU cores.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: str = Field(default="embedded", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = 0
    out: Path | None = None
    """Run folder; None for runs/NAME-TIME."""
    domain: Annotated[str, BeforeValidator(describe_named)] = (
        "mica_ray.domains.emotional_support:EMOTIONAL_SUPPORT"
    )
    """module:NAME of a Domain; a recipe may give the value itself."""
    scenarios_file: Path | None = None
    """JSON lines that take the place of the domain's own scenarios."""
    retellings: int = Field(default=14, ge=0)
    """How often each of the domain's own training scenarios is told about another topic, beside its own."""
    cards: str | None = None
    """Folder of EMPA cards or hub dataset id; they are the scenarios of mica_ray.domains.empa:EMPA."""
    card_ratings: Path | None = None
    """What `mica data rate` wrote; None for rated_iedr.jsonl beside the cards, if it is there."""
    allow_test_cards: bool = False
    """Whether the official EMPA test cases may be trained on; such a run is marked contaminated."""
    contaminated: Annotated[bool, Field(validate_default=True)] = False
    """Set by allow_test_cards and kept from then on: what test cases taught cannot be taken back."""
    rules: ProgressRules | None = None
    """When a dialogue ends, in training and evaluation; None for the domain's rules."""
    policy: str = EMBEDDED
    """"embedded", a hub id, or a model folder."""
    chat_template_arguments: dict[str, bool | int | str] = Field(default_factory=dict)
    """What the policy's chat template is given beside the messages, such as {"enable_thinking": false}."""
    roles: Annotated[RoleConfig, BeforeValidator(read_roles)] = RoleConfig()
    rewards: Rewards = Rewards()
    credit: Annotated[CreditEstimator, PlainValidator(_check_credit), PlainSerializer(describe_object)] = (
        Mica()
    )
    rollout: RolloutConfig = RolloutConfig(
        group_size=4, sampling=Sampling(max_tokens=40), context_length=1024
    )
    engine: EngineConfig = EngineConfig()
    num_engines: int = Field(default=1, ge=1)
    learner: LearnerConfig = LearnerConfig(
        learning_rate=1e-3,
        weight_decay=0.0,
        mini_batches=8,
        micro_batch_tokens=16384,
        # The paper trains without. A model this small then forgets what it could say of later needs.
        loss=LossConfig(kl_coefficient=0.03),
    )
    """The loss is `learner.loss`; `total_updates` follows from the loop."""
    ray_learner: RayLearnerConfig = RayLearnerConfig()
    loop: LoopConfig = LoopConfig(num_steps=22, scenarios_per_step=16, checkpoint_every=10)
    evaluation: EvaluationConfig = EvaluationConfig(samples=3, temperature=0.7)
    """At a temperature one would serve at; training explores at that of `rollout.sampling`."""
    budget: Budget = Budget()
    """What the role models may cost; once it is used up, the run stops behind a checkpoint."""
    policy_seed: int = 0
    """Of the embedded policy's making; apart from the run's, so that all seeds begin at one policy."""
    inline_threads: int = Field(default=1, ge=1)
    """torch's threads in `--inline` runs; one is the fast choice for tiny models. Results depend on it."""
    dashboard_port: int | None = None
    """Of the dashboard of a Ray started here; None starts none."""
    tracking_uri: str | None = None
    """MLflow store, a database or a server's address; None for a sqlite file in the run folder, or for the
    trials of a sweep in the sweep's folder."""
    tracking_parent: str | None = None
    """Id of the MLflow run under which this one is shown, such as a sweep's; of the same store and name."""
    register_as: str | None = Field(default=None, min_length=1)
    """Name of the model in MLflow's registry of which the trained policy becomes a version at the end of the
    run; None registers nothing, which `mica register` can do later."""

    @field_validator("contaminated")
    @classmethod
    def _mark_contaminated(cls, value: bool, info: ValidationInfo) -> bool:
        return value or bool(info.data.get("allow_test_cards"))

    @model_validator(mode="after")
    def _check_total_updates(self) -> RunConfig:
        """Refuse a schedule of another length than the run's."""
        given, followed = self.learner.total_updates, self.whole_learner.total_updates
        if given not in (LearnerConfig().total_updates, followed):
            raise ValueError(
                f"learner.total_updates={given} must be {followed}, which follows from loop.num_steps x "
                "learner.epochs x learner.mini_batches; set those"
            )
        return self

    @model_validator(mode="after")
    def _check_weight_transfer(self) -> RunConfig:
        """Refuse engines that wait for a GPU of a learner that has none."""
        if self.engine.weight_transfer == "nccl" and self.ray_learner.gpus_per_worker < 1:
            raise ValueError(
                "engine.weight_transfer=nccl needs ray_learner.gpus_per_worker >= 1, whole GPUs; "
                f"got {self.ray_learner.gpus_per_worker:g}. Without: engine.weight_transfer=bucket"
            )
        return self

    @property
    def whole_learner(self) -> LearnerConfig:
        """The learner with its schedule stretched over this run's optimiser steps."""
        learner = self.learner
        return replace(learner, total_updates=self.loop.num_steps * learner.epochs * learner.mini_batches)

    @property
    def discount(self) -> float:
        """The estimator's discount per turn, 1 where it has none."""
        return float(getattr(self.credit, "gamma", 1.0))

    def write(self, path: Path) -> None:
        """Write the config as JSON."""
        path.write_text(self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> RunConfig:
        """Read what `write` wrote.

        Raises:
            ConfigError: the file is missing, no JSON, or holds an unknown or invalid key.
        """
        try:
            values = json.loads(path.read_text())
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be read ({error.strerror}); give a run folder of `mica train`"
            ) from error
        except ValueError as error:
            raise ConfigError(f"{path}: not JSON ({error})") from error
        return validated(cls, values)
