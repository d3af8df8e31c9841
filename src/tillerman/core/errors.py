"""Every error a user can meet.

::

    TillermanError                 exit code 1
    ├── DataError                  a file, a row or a whole data set cannot be used
    ├── UnknownNameError           no such method, scope, operator, layout, ...
    ├── HookPointError             a layer or site the model does not have
    ├── ModelError                 the model cannot be opened or steered
    ├── FitError                   the data give no direction (an empty side, identical sides, NaN)
    ├── ArtefactError              a file is missing, truncated or no artefact of ours
    ├── FileError                  the system refuses to read or write a file
    ├── LogError                   a log is missing, truncated, of another kind or of an unknown version
    ├── MismatchError              artefact and model do not belong together
    ├── NotAppliedError            a plan was given and never touched a token
    ├── EndpointError              a judge's endpoint refuses, fails or answers nonsense
    ├── MetricError                a measured value is not a finite number; it is refused, never averaged
    └── UsageError                 exit code 2: options that contradict each other or are out of range

Messages name the thing, the choices and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from tillerman.core.escaping import visible

IN_FLOAT32 = "open the model in float32: open_model(..., dtype=torch.float32)"  # a remedy that several errors name


LONGEST = 600  # characters of an error that quotes data


def _sayable(message: str) -> str:
    """A message that any terminal and file can take: half surrogate pairs are written out, and of one that is too long
    the middle is left out, so that place and remedy stay."""
    return _cut(message.encode("utf-8", "backslashreplace").decode(), LONGEST - 270, 265)


def _cut(text: str, begin: int, end: int) -> str:
    whole = len(text) <= begin + end + 5
    return text if whole else f"{text[:begin]} ... {text[len(text) - end :]}"


class TillermanError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1

    def __str__(self) -> str:
        """Whatever names are in it: nothing that would steer a terminal."""
        return visible(super().__str__())


class DataError(TillermanError):
    """Data that cannot be used, with the place: file, line (1-based) and field where known."""

    def __init__(
        self, message: str, *, file: str | Path | None = None, line: int | None = None, field: str | None = None
    ) -> None:
        self.file, self.line, self.field = file, line, field
        where = ":".join(str(part) for part in (file, line) if part is not None)
        place = ", ".join(part for part in (where, f"field {field!r}" if field is not None else "") if part)
        super().__init__(_sayable(f"{place}: {message}" if place else message))


class UnknownNameError(TillermanError):
    """A name that is not registered; says what is."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        choices = sorted(known)
        close = get_close_matches(name, choices, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        begin = f"no {kind} named {_cut(name, 60, 0)!r}; "
        whole = f"{begin}known: {', '.join(choices)}.{hint}"
        if len(whole) > LONGEST:
            near = get_close_matches(name, choices, n=12, cutoff=0)
            whole = f"{begin}the nearest of {len(choices)}: {', '.join(near)}.{hint}"
        super().__init__(whole)


class HookPointError(TillermanError):
    """A layer or site that the model does not have."""


class ModelError(TillermanError):
    """A model that cannot be opened, or that fails the checks made on opening."""


class FitError(TillermanError):
    """Data from which no direction follows."""


class ArtefactError(TillermanError):
    """A file that is not a readable artefact."""


class FileError(TillermanError):
    """A file or folder that the system refuses: full, read-only, too long a name, links in a circle."""


class LogError(TillermanError):
    """A file that is not a readable log of the kind and version asked for."""


class MismatchError(TillermanError):
    """An artefact and a model that do not belong together."""


class MetricError(TillermanError):
    """A measured value that is not a finite number, or none where one is needed."""


class NotAppliedError(TillermanError):
    """An intervention that never touched a token."""


class EndpointError(TillermanError):
    """A network endpoint that refuses, or still fails after every retry."""


class UsageError(TillermanError):
    """Options that contradict each other or are out of range."""

    exit_code = 2
