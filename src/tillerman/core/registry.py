"""Names for things: an explicit table with an error that lists the choices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from tillerman.core.errors import UnknownNameError

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """An immutable table ``name -> value``; a missing name raises ``UnknownNameError``."""

    def __init__(self, kind: str, entries: Mapping[str, T]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise UnknownNameError(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
