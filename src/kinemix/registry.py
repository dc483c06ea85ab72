"""A shelf: named classes that are found by the folder they stand in.

Adding a temporal module or a dataset is one new file in the shelf's package, and nothing else to edit.
A class outside kinemix is named ``"package.module:Class"``.
"""

import importlib
import pkgutil
from functools import cached_property
from typing import Generic, TypeVar

from kinemix.errors import ConfigError, did_you_mean

T = TypeVar("T")


class Shelf(Generic[T]):
    """All subclasses of ``base`` with a ``name`` that are defined in the modules of ``package``.

    Args:
        package: dotted name of the package whose modules are the shelf.
        kind: what stands on it, for messages ("temporal module").
        base: the class that everything on the shelf inherits.
    """

    def __init__(self, package: str, kind: str, base: type[T]) -> None:
        self.package, self.kind, self.base = package, kind, base

    @cached_property
    def _classes(self) -> dict[str, type[T]]:
        found: dict[str, type[T]] = {}
        package = importlib.import_module(self.package)
        for info in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{self.package}.{info.name}")
            for value in vars(module).values():
                if isinstance(value, type) and value.__module__ == module.__name__:
                    name = vars(value).get("name")
                    if issubclass(value, self.base) and isinstance(name, str):
                        if name in found:
                            raise TypeError(f"two {self.kind}s are named {name!r}: {found[name]} and {value}")
                        found[name] = value
        return dict(sorted(found.items()))

    def names(self) -> list[str]:
        """Names on the shelf, sorted."""
        return list(self._classes)

    def __contains__(self, name: str) -> bool:
        return name in self._classes

    def get(self, name: str) -> type[T]:
        """The class called ``name``, or the one at ``"package.module:Class"``.

        Raises:
            ConfigError: nothing of that name; the message suggests the nearest.
        """
        if name in self._classes:
            return self._classes[name]
        if ":" in name:
            return self._import(name)
        raise ConfigError(f"unknown {self.kind} {name!r}: {did_you_mean(name, self._classes)}")

    def _import(self, name: str) -> type[T]:
        module_name, _, attribute = name.partition(":")
        try:
            value = getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"{self.kind} {name!r} cannot be imported: {error}") from error
        if not (isinstance(value, type) and issubclass(value, self.base)):
            raise ConfigError(f"{name!r} is not a {self.kind}: it must be a subclass of {self.base.__name__}")
        return value
