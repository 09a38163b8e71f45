"""The config of a run, the --set overrides and references to objects. See README.md here."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mica_ray.config.references import ConfigError
    from mica_ray.config.role_config import Recording, RoleConfig
    from mica_ray.config.run_config import RunConfig

__all__ = ["ConfigError", "Recording", "RoleConfig", "RunConfig"]


def __getattr__(name: str) -> object:
    # RunConfig imports torch. Commands that need only ConfigError start without it.
    if name == "RunConfig":
        from mica_ray.config.run_config import RunConfig

        return RunConfig
    if name in ("Recording", "RoleConfig"):
        from mica_ray.config import role_config

        return getattr(role_config, name)
    if name == "ConfigError":
        from mica_ray.config.references import ConfigError

        return ConfigError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
