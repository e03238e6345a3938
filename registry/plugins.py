"""One mechanism for everything that can be added as a file: kinds, methods, blob stores, publishers, commands.

A family is a package whose public modules each hold one subclass of the family's base class. Listing the
family imports nothing; loading a member imports that member alone.
"""

import importlib
import inspect
import pkgutil
import sys
from functools import cached_property
from typing import Generic, TypeVar

from registry.errors import Refused

T = TypeVar("T")


class Family(Generic[T]):
    """The members of the package that defines ``base``; modules named ``_…`` are helpers, not members."""

    def __init__(self, base: type[T], noun: str) -> None:
        self._base = base
        self._noun = noun

    def names(self) -> list[str]:
        return list(self._names)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        package = sys.modules[self._base.__module__]
        found = (module.name for module in pkgutil.iter_modules(package.__path__))
        return tuple(sorted(name for name in found if not name.startswith("_")))

    def load(self, name: str) -> type[T]:
        """The class in module ``name``. Raises ``Refused``, listing the known names, for an unknown one."""
        if name not in self.names():
            known = ", ".join(self.names())
            raise Refused(f"unknown {self._noun} {name!r}", hint=f"known are: {known}")
        module = importlib.import_module(f"{self._base.__module__}.{name}")
        members = [
            member
            for _, member in inspect.getmembers(module, inspect.isclass)
            if issubclass(member, self._base) and member.__module__ == module.__name__
        ]
        if len(members) != 1:
            raise TypeError(f"{module.__name__} must define exactly one {self._base.__name__}")
        return members[0]
