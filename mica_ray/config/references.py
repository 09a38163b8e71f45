"""References to Python objects in text: `module:NAME` or `file.py:NAME`."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from mica_ray.config.trust import foreign_object_problem, foreign_reference_problem
from mica_ray.error_lines import first_line

_MISSING = object()


class ConfigError(ValueError):
    """The request cannot be carried out. The message is one line: the problem and the fix."""


def nearest(name: str, valid: Sequence[str]) -> str:
    """Return a sentence for an error message that suggests the closest valid name.

    >>> nearest("num_step", ["num_steps", "seed"])
    'Did you mean num_steps?'
    >>> nearest("xyz", ["num_steps", "seed"])
    'Valid names: num_steps, seed.'
    """
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.4)
    return f"Did you mean {close[0]}?" if close else f"Valid names: {', '.join(sorted(valid))}."


def load_module_file(path: Path) -> ModuleType:
    """Import a Python file as a module of its own; a second call returns the same module.

    Raises:
        ConfigError: the file does not exist, or running it failed.
    """
    if not path.is_file():
        raise ConfigError(f"{path} does not exist. Check the path of the Python file.")
    location = str(path.resolve())
    name = f"mica_recipe_{path.stem}_{hashlib.blake2b(location.encode(), digest_size=4).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, location)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is not a Python file. Use a file that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Dataclasses look up their own module while they are being created.
    try:
        spec.loader.exec_module(module)
    except ConfigError:
        del sys.modules[name]
        raise
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(f"{path} failed with {type(error).__name__}: {first_line(error)}") from error
    return module


def resolve(reference: str) -> object:
    """Import the object that a reference names.

    Raises:
        ConfigError: the form is wrong, there is no such module, file or name, or the reference is that of an
            untrusted config (config/trust.py) and leads outside of mica_ray.
    """
    if (problem := foreign_reference_problem(reference)) is not None:
        raise ConfigError(problem)
    place, separator, name = reference.rpartition(":")
    if not separator or not place or not name:
        raise ConfigError(f"{reference!r} is not a reference. Use module:NAME or file.py:NAME.")
    if place.endswith(".py"):
        module = load_module_file(Path(place))
    else:
        try:
            module = importlib.import_module(place)
        except ImportError as error:
            raise ConfigError(
                f"{reference}: cannot import {place} ({first_line(error)}). "
                "Check the name, or use file.py:NAME."
            ) from error
    found: object = getattr(module, name, _MISSING)
    if found is _MISSING:
        public = [item for item in vars(module) if not item.startswith("_")]
        raise ConfigError(f"{reference}: {place} has no {name}. {nearest(name, public)}")
    if (problem := foreign_object_problem(reference, found)) is not None:
        raise ConfigError(problem)
    return found


def reference_of(item: object) -> str:
    """Return the reference from which `resolve` finds a class or function.

    Raises:
        ConfigError: it is not defined at the top level of a module or file.
    """
    name = str(getattr(item, "__qualname__", ""))
    module = sys.modules.get(str(getattr(item, "__module__", "")))
    if module is None or getattr(module, name, None) is not item:
        raise ConfigError(
            f"{name or repr(item)} cannot be stored in a config. Define it at the top level of a module."
        )
    is_file = module.__name__ == "__main__" or module.__name__.startswith("mica_recipe_")
    return f"{inspect.getsourcefile(module) if is_file else module.__name__}:{name}"


def find_reference(value: object) -> str:
    """Return the reference of a value with a public name in an imported module.

    Raises:
        ConfigError: no module holds it.
    """
    for module in list(sys.modules.values()):
        for name, held in list(getattr(module, "__dict__", {}).items()):
            if held is value and not name.startswith("_"):
                place = module.__name__
                if place == "__main__" or place.startswith("mica_recipe_"):
                    place = str(inspect.getsourcefile(module))
                return f"{place}:{name}"
    raise ConfigError(
        f"This {type(value).__name__} cannot be stored in a config. "
        "Assign it to a public name at the top level of a module."
    )
