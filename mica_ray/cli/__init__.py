"""The command line: mica train, evaluate, chat. Commands import what they need when they run."""

from mica_ray.cli.commands import main

__all__ = ["main"]
