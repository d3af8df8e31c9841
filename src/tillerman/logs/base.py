"""What all logs have in common: plain values, a kind, a version, one reader and one error."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from tillerman.core.decoding import build as build
from tillerman.core.errors import LogError, TillermanError
from tillerman.core.escaping import visible
from tillerman.core.files import write_text
from tillerman.core.shown import clipped
from tillerman.logs.tidy import Row, Tables, frame_of, table_of


@dataclass(frozen=True)
class View:
    """How a log is shown in a session: some words, and HTML for a notebook."""

    words: Callable[[Any], str]
    html: Callable[[Any], str]


_LONGEST = 500  # characters of a repr: a name may be of any length
_VIEWS: dict[str, View] = {}


def show_with(kind: str, view: View) -> None:
    """Logs of a kind are shown by this view from now on. Reports call this; a log itself knows no report."""
    _VIEWS[kind] = view


@dataclass(frozen=True, repr=False)
class Log(ABC):
    """What a command measured. ``kind`` and ``version`` are in its JSON; ``maker`` is the command that writes one."""

    kind: ClassVar[str]
    maker: ClassVar[str]
    version: ClassVar[int] = 1

    def to_json(self) -> dict[str, Any]:
        return {**_ends(asdict(self)), "version": self.version, "kind": self.kind}

    @classmethod
    def from_json(cls, values: Any, source: str = "") -> Self:
        """The log of its JSON; ``source`` is the file it comes from, for the message.

        ``LogError`` for the JSON of something else, of another version, or of a damaged log. Logs that were written
        before they named their kind are known by their fields."""
        place = f"{source}: " if source else ""
        if not isinstance(values, Mapping) or values.get("kind", cls.kind) != cls.kind or not _has_version(values):
            found = (
                f" but of kind {clipped(str(values['kind']), 30)}"
                if isinstance(values, Mapping) and "kind" in values
                else ""
            )
            raise LogError(f"{place}no log of kind {cls.kind}{found}; '{cls.maker}' writes one")
        if values["version"] != cls.version:
            other = clipped(str(values["version"]), 20)
            raise LogError(
                f"{place}a log of kind {cls.kind}, version {other}; this Tillerman reads version "
                f"{cls.version}: use the Tillerman that wrote it, or make it again with '{cls.maker}'"
            )
        missing = [f.name for f in fields(cls) if f.default is f.default_factory is MISSING and f.name not in values]
        if missing:
            without = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise LogError(f"{place}no log of kind {cls.kind}: without {without}; '{cls.maker}' writes one")
        try:
            log = cls._decoded(values)
            log.check()
            return log
        except (TypeError, KeyError, ValueError, AttributeError, TillermanError) as error:
            said = clipped(str(error), 300)
            raise LogError(
                f"{place}a damaged log of kind {cls.kind} ({said}); make it again with '{cls.maker}'"
            ) from error

    @classmethod
    def _decoded(cls, values: Mapping[str, Any]) -> Self:
        return build(cls, values)

    def check(self) -> None:  # noqa: B027 (most kinds have no such rule)
        """What types do not say of a log that was read, for a kind that has such rules: ``ValueError`` that names the
        first one broken."""

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The log of a file. ``LogError`` as for ``from_json``, and for a file that is missing, cut off or no JSON."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            said = clipped(str(error), 200)
            raise LogError(f"{path}: no log of kind {cls.kind} ({said}); '{cls.maker}' writes one") from None
        return cls.from_json(values, str(path))

    def write(self, path: str | Path) -> None:
        write_text(Path(path), json.dumps(self.to_json()))

    @abstractmethod
    def tidy(self) -> Tables:
        """What was measured as tidy tables by name; rows are plain values, made when they are asked for."""

    def rows(self, table: str = "") -> tuple[Row, ...]:
        """A tidy table as plain rows with the same columns, the kind's main one if none is named (docs/frames.md).

        ``UnknownNameError`` for a table that the kind does not have."""
        return table_of(self.tidy(), table, self.kind)

    def to_frame(self, table: str = "", library: str = "pandas") -> Any:
        """A tidy table as a ``pandas.DataFrame``, or with ``library="polars"`` as a ``polars.DataFrame``.

        ``UsageError`` where the library is not installed (extra ``frames``); else as ``rows``."""
        return frame_of(self.rows(table), library)

    def __repr__(self) -> str:
        view = _VIEWS.get(self.kind)
        words = visible(view.words(self)) if view else ""
        return (
            f"<{type(self).__name__}{' ' if words else ''}{words if len(words) < _LONGEST else words[:_LONGEST] + '…'}>"
        )

    def _repr_html_(self) -> str | None:
        view = _VIEWS.get(self.kind)
        return view.html(self) if view else None


def _ends(value: Any) -> Any:
    """Plain values with no ends (``{}``) for an interval that has none: JSON has no infinity."""
    if isinstance(value, dict):
        if value.keys() == {"low", "high"}:
            return value if any(map(math.isfinite, value.values())) else {}
        return {name: _ends(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_ends(one) for one in value)
    return value


def _has_version(values: Mapping[str, Any]) -> bool:
    return isinstance(values.get("version"), int)
