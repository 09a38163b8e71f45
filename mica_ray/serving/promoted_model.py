"""A run's policy as a version of a registered model in MLflow, found again by its alias. Judges nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TAG_LENGTH = 5000
"""Characters that MLflow keeps of a tag's value."""


@dataclass(frozen=True, slots=True)
class PromotedModel:
    """Where a promoted policy is found."""

    name: str
    version: str
    alias: str
    tracking_uri: str

    @property
    def reference(self) -> str:
        """What `mica serve` takes."""
        return f"models:/{self.name}@{self.alias}"


def promote_policy(
    policy: Path, *, name: str, alias: str, run_id: str, tracking_uri: str, tags: Mapping[str, str]
) -> PromotedModel:
    """Give the version of a registered model that holds this policy its alias; make what is missing.

    A policy that is a version already is not registered twice. The alias moves from whichever version had it.

    Args:
        policy: a model folder.
        name: of the registered model.
        alias: such as champion.
        run_id: the MLflow run that trained it.
        tracking_uri: the store of run and model.
        tags: why it was promoted; written to the version.

    Raises:
        ValueError: MLflow refuses; the message says what.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    source = policy.absolute().as_uri()
    try:
        if not client.search_registered_models(filter_string=f"name = '{name}'"):
            client.create_registered_model(name)
        known = client.search_model_versions(f"name = '{name}'")
        version = next(
            (str(item.version) for item in known if item.run_id == run_id and item.source == source), None
        )
        if version is None:
            version = str(client.create_model_version(name, source=source, run_id=run_id).version)
        for key, text in tags.items():
            client.set_model_version_tag(name, version, key, text[:_TAG_LENGTH])
        # Last: whoever finds the alias finds the reasons.
        client.set_registered_model_alias(name, alias, version)
    except MlflowException as error:
        raise ValueError(f"{tracking_uri}: {name} not promoted ({error.message.splitlines()[0]})") from error
    return PromotedModel(name, version, alias, tracking_uri)
