"""What other packages add to a registry, by entry points; looked for when an unknown name is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from tillerman.core.errors import UnknownNameError
from tillerman.core.escaping import visible
from tillerman.core.registry import Registry

T = TypeVar("T")


class OpenRegistry(Registry[T]):
    """A registry that entry points of ``group`` add to. ``admit`` says what is wrong with a loaded value, if anything.

    A plug-in that cannot be loaded, or whose name is taken, is left out with a warning that names the package.
    """

    def __init__(
        self, kind: str, entries: Mapping[str, T], group: str, admit: Callable[[str, Any], str | None]
    ) -> None:
        super().__init__(kind, entries)
        self._group, self._admit = group, admit

    @cached_property
    def added(self) -> dict[str, T]:
        """What other packages add, by name."""
        found: dict[str, T] = {}
        for point in entry_points(group=self._group):
            value, wrong = _loaded(point)
            if point.name in self._entries or point.name in found:
                wrong = "the name is taken"
            wrong = wrong or self._admit(point.name, value)
            if wrong:
                package = point.dist.name if point.dist is not None else point.value
                said = visible(f"{package}: its {self.kind} {point.name!r} is left out: {wrong}")
                warnings.warn(said, stacklevel=2)
            else:
                found[point.name] = value
        return found

    def __getitem__(self, name: str) -> T:
        if name in self._entries:
            return self._entries[name]
        if name not in self.added:
            raise UnknownNameError(self.kind, name, self.known)
        return self.added[name]

    @property
    def known(self) -> list[str]:
        """Every name that can be asked for; the mapping itself has our own ones only, as lists and pages do."""
        return [*self._entries, *self.added]

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self.added


def _loaded(point: EntryPoint) -> tuple[Any, str | None]:
    try:
        return point.load(), None
    except Exception as error:  # noqa: BLE001 (whatever another package raises)
        return None, f"{type(error).__name__}: {error}"
