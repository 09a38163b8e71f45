"""RunConfig: all settings of a run in one frozen value."""

from __future__ import annotations

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
from mica_ray.chat.openai_api import Endpoint
from mica_ray.config.overrides import build_object, describe_named, describe_object, validated
from mica_ray.config.references import ConfigError
from mica_ray.config.role_config import EMBEDDED, RoleConfig, read_roles
from mica_ray.config.trust import distrust_key, foreign_reference_problem, is_trust_given, untrusted
from mica_ray.credit import CreditEstimator, Mica
from mica_ray.credit.noise_gate import Gated, NoiseGate
from mica_ray.dialogue.progress import ProgressRules
from mica_ray.dialogue.repeat_judging import RepeatConfig
from mica_ray.evaluation.evaluate import EvaluationConfig
from mica_ray.files import JsonFileError, read_json_object
from mica_ray.losses import LossConfig
from mica_ray.rewards import Rewards
from mica_ray.rollout.collect import RolloutConfig
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.secrets import has_login, redact
from mica_ray.training.audit.config import AuditConfig
from mica_ray.training.learner_group import RayLearnerConfig
from mica_ray.training.loop import LoopConfig
from mica_ray.training.update import LearnerConfig
from mica_ray.types import Sampling
from mica_ray.valid_text import valid_text


def _check_credit(estimator: object) -> object:
    built = build_object(estimator)
    if not callable(built):
        raise ValueError(f"credit must be an estimator such as mica_ray.credit:Mica, got {built!r}.")
    return built


class RunConfig(BaseModel):
    """All settings of a run; stored in the run folder as JSON, which reproduces the run.

    The defaults are the embedded run: a small built-in policy and scripted roles, minutes on two CPU cores.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: str = Field(default="embedded", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = 0
    out: Path | None = None
    """Run folder; None means runs/NAME-TIME."""
    domain: Annotated[str, BeforeValidator(describe_named)] = (
        "mica_ray.domains.emotional_support:EMOTIONAL_SUPPORT"
    )
    """module:NAME of a Domain. A recipe may use the Domain itself."""
    scenarios_file: Path | None = None
    """JSON lines of scenarios that replace those of the domain."""
    retellings: int = Field(default=14, ge=0)
    """Number of variants about other topics that are added per training scenario of the domain."""
    cards: str | None = None
    """Folder or hub dataset id of EMPA cards, the scenarios of mica_ray.domains.empa:EMPA."""
    card_ratings: Path | None = None
    """Output of `mica data rate`; None means rated_iedr.jsonl next to the cards, if it exists."""
    allow_test_cards: bool = False
    """Whether to allow official EMPA test cases as training scenarios; the run is marked contaminated."""
    contaminated: Annotated[bool, Field(validate_default=True)] = False
    """Whether the policy was trained on test cases. Set by allow_test_cards and never cleared again."""
    rules: ProgressRules | None = None
    """Rules that end a dialogue, in training and evaluation; None means the rules of the domain."""
    policy: str = EMBEDDED
    """"embedded", a hub id, or a model folder."""
    chat_template_arguments: dict[str, bool | int | str] = Field(default_factory=dict)
    """Extra arguments of the policy's chat template, such as {"enable_thinking": false}."""
    roles: Annotated[RoleConfig, BeforeValidator(read_roles)] = RoleConfig()
    evaluation_roles: Annotated[RoleConfig | None, BeforeValidator(read_roles)] = None
    """Who plays the roles in evaluations; None means `roles`. No models that vLLM would have to serve."""
    rewards: Rewards = Rewards()
    credit: Annotated[CreditEstimator, PlainValidator(_check_credit), PlainSerializer(describe_object)] = (
        Mica()
    )
    noise_gate: NoiseGate | None = None
    """Excludes turns whose spread among siblings is within the noise of the judge; None: no turn."""
    repeat_judging: RepeatConfig | None = None
    """Judges the turns of a step that are nearest to a tie again and averages; None: every turn once."""
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
        # The paper uses none. Without it, so small a model unlearns its replies to needs late in a dialogue.
        loss=LossConfig(kl_coefficient=0.03),
    )
    """The loss is in `learner.loss`. `total_updates` is derived from the loop."""
    ray_learner: RayLearnerConfig = RayLearnerConfig()
    loop: LoopConfig = LoopConfig(num_steps=22, scenarios_per_step=16, checkpoint_every=10)
    evaluation: EvaluationConfig = EvaluationConfig(samples=3, temperature=0.7)
    """Uses a temperature suited to serving; training explores at the one of `rollout.sampling`."""
    audit: AuditConfig = AuditConfig()
    """How `roles.audit_judge` watches the training judge; without effect if it is not set."""
    budget: Budget = Budget()
    """Limits on the cost of the role models. At a limit, the run writes a checkpoint and stops."""
    policy_seed: int = 0
    """Seed of the embedded policy. Separate from `seed`, so that all seeds start from one policy."""
    inline_threads: int = Field(default=1, ge=1)
    """Threads of torch in --inline runs; one is fastest for tiny models. Results depend on it."""
    gpu_memory_gib: float | None = Field(default=None, gt=0)
    """Memory of each GPU, GiB, for the plan; None means that of this machine's GPUs. Cards of 80 GB
    have 79."""
    dashboard_port: int | None = None
    """Port of the dashboard if the run starts Ray itself; None starts no dashboard."""
    tracking_uri: str | None = None
    """MLflow store: a database or a server address. None means a sqlite file in the run folder, or in the
    sweep's folder for its trials."""
    tracking_parent: str | None = None
    """Id of the parent MLflow run, such as that of a sweep; in the same store, with the same name."""
    register_as: str | None = Field(default=None, min_length=1)
    """Name of the MLflow model under which the trained policy is registered at the end of the run. None
    registers nothing; `mica register` can do it later."""

    @field_validator("contaminated")
    @classmethod
    def _mark_contaminated(cls, value: bool, info: ValidationInfo) -> bool:
        return value or bool(info.data.get("allow_test_cards"))

    @field_validator("tracking_uri")
    @classmethod
    def _check_tracking_uri(cls, value: str | None) -> str | None:
        """Check that no login becomes part of the config, which is stored and shown."""
        if value is not None and has_login(value):
            raise ValueError(
                f"the address must not contain a login, got {redact(value)}. Export MLFLOW_TRACKING_USERNAME "
                "and MLFLOW_TRACKING_PASSWORD for a server, or PGPASSWORD for a PostgreSQL database."
            )
        return value

    @model_validator(mode="after")
    def _check_texts(self) -> RunConfig:
        """Check that paths and names are text: the config is stored, and file names can be other bytes."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            text = str(value) if isinstance(value, str | Path) else ""
            if "\x00" in text or valid_text(text) != text:
                raise ValueError(
                    f"{name} must be valid Unicode without NUL, got {text!r}. Rename the file or folder."
                )
        return self

    @model_validator(mode="after")
    def _check_total_updates(self) -> RunConfig:
        """Check that the learning rate schedule, if set, is as long as the run."""
        configured, derived = self.learner.total_updates, self.whole_learner.total_updates
        if configured not in (LearnerConfig().total_updates, derived):
            raise ValueError(
                f"learner.total_updates must be {derived} (loop.num_steps x learner.epochs x "
                f"learner.mini_batches), got {configured}. Leave it out and set those three."
            )
        return self

    @model_validator(mode="after")
    def _check_potential(self) -> RunConfig:
        """Check that a potential has the discount of the returns."""
        gamma = self.rewards.gamma
        if self.rewards.kind == "potential" and gamma not in (None, self.discount):
            raise ValueError(
                f"rewards.gamma must be credit.gamma ({self.discount:g}) for rewards.kind=potential, got "
                f"{gamma:g}. Leave it out."
            )
        return self

    @model_validator(mode="after")
    def _check_evaluation(self) -> RunConfig:
        """Check that evaluations can be played, and that training samples what it learns from."""
        if self.rollout.sampling.presence_penalty:
            raise ValueError(
                "rollout.sampling.presence_penalty must be 0, because the learner computes probabilities "
                f"without it, got {self.rollout.sampling.presence_penalty:g}. "
                "Set evaluation.presence_penalty for evaluations."
            )
        max_tokens, length = self.evaluation.max_tokens or 0, self.rollout.context_length
        if max_tokens >= length:
            raise ValueError(
                f"evaluation.max_tokens must be < rollout.context_length ({length}), got {max_tokens}. "
                "Lower it, or raise rollout.context_length."
            )
        served = () if self.evaluation_roles is None else self.evaluation_roles.served_models
        if served:
            raise ValueError(
                f"evaluation_roles must not need an engine, got vllm:{served[0]}. "
                "Use the endpoint of a server."
            )
        return self

    @model_validator(mode="after")
    def _check_weight_transfer(self) -> RunConfig:
        """Check that a learner whose weights go through NCCL has a GPU."""
        if self.engine.weight_transfer == "nccl" and self.ray_learner.gpus_per_worker < 1:
            raise ValueError(
                "engine.weight_transfer=nccl needs whole GPUs, ray_learner.gpus_per_worker >= 1, "
                f"got {self.ray_learner.gpus_per_worker:g}. Raise it, or set engine.weight_transfer=bucket."
            )
        return self

    @model_validator(mode="after")
    def _check_adapter_push(self) -> RunConfig:
        """Check that engines which get only an adapter keep the weights below it."""
        lora, engine = self.learner.lora, self.engine
        if lora is None or lora.push == "merged":
            return self
        if engine.weight_transfer != "bucket":
            raise ValueError(
                f"engine.weight_transfer={engine.weight_transfer} sends whole weights, and learner.lora.push "
                "is adapter. Set engine.weight_transfer=bucket or learner.lora.push=merged."
            )
        if engine.sleep_level == 2:
            raise ValueError(
                "engine.sleep_level=2 drops the base weights, and learner.lora.push is adapter. Set "
                "engine.sleep_level=1 or learner.lora.push=merged."
            )
        return self

    @property
    def dialogues_per_step(self) -> int:
        """Dialogues that one step of training plays."""
        return self.loop.scenarios_per_step * self.rollout.group_size

    @property
    def whole_learner(self) -> LearnerConfig:
        """The learner config with `total_updates` set to the optimizer steps of this run."""
        learner = self.learner
        return replace(learner, total_updates=self.loop.num_steps * learner.epochs * learner.mini_batches)

    @property
    def whole_rewards(self) -> Rewards:
        """The rewards with the discount of this run, which makes a potential a shaping reward."""
        return self.rewards if self.rewards.gamma else replace(self.rewards, gamma=self.discount or None)

    @property
    def whole_credit(self) -> CreditEstimator:
        """The credit estimator behind the noise gate, if there is one."""
        return self.credit if self.noise_gate is None else Gated(self.credit, self.noise_gate)

    @property
    def discount(self) -> float:
        """Discount per turn of the credit estimator; 1 if it has none."""
        return float(getattr(self.credit, "gamma", 1.0))

    def write(self, path: Path) -> None:
        """Write the config as JSON."""
        path.write_text(self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, path: Path, *, trusted: bool = False) -> RunConfig:
        """Read a config that `write` stored.

        Args:
            path: of the file.
            trusted: whether its references may lead to any code, and its endpoints get API keys. Otherwise
                they may only if the command has `--trust`.

        Raises:
            ConfigError: the file is missing or not valid JSON, has an unknown or invalid key, or names code
                outside of mica_ray without being trusted.
        """
        try:
            values = read_json_object(path)
        except JsonFileError as error:
            raise ConfigError(str(error)) from error
        if trusted or is_trust_given():
            return validated(cls, values)
        with untrusted(path):
            config = validated(cls, values)
            # The domain is resolved later, when the run is loaded.
            if (problem := foreign_reference_problem(config.domain)) is not None:
                raise ConfigError(problem)
        for endpoint in config.roles.players.values():
            if isinstance(endpoint, Endpoint) and endpoint.base_url is not None:
                distrust_key(endpoint.base_url, endpoint.api_key_env, path)
        return config
