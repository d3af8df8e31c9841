"""What a pretend device had to do that a real one waits for, and the line of code that asked for it."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import transformers

import tillerman

OURS = str(Path(tillerman.__file__).parent)
THEIRS = str(Path(transformers.__file__).parent)

SYNC, UP, DOWN, ACROSS, DOUBLE = "sync", "to the device", "from the device", "between devices", "float64"


@dataclass(frozen=True, order=True)
class Event:
    kind: str
    operation: str
    line: str

    @property
    def ours(self) -> bool:
        return self.line.startswith("tillerman/")


@dataclass
class Record:
    events: Counter[Event] = field(default_factory=Counter)
    numbers: Counter[Event] = field(default_factory=Counter)  # fetched as Python's own

    def note(self, kind: str, operation: str, numbers: int = 0) -> None:
        event = Event(kind, operation, _line())
        self.events[event] += 1
        self.numbers[event] += numbers

    def clear(self) -> None:
        self.events.clear()
        self.numbers.clear()

    def ours(self, *kinds: str) -> Counter[Event]:
        """What lines of tillerman caused, of these kinds, or of all."""
        return Counter({e: n for e, n in self.events.items() if e.ours and (not kinds or e.kind in kinds)})

    def __str__(self) -> str:
        return "\n".join(f"{n:6d} {e.kind:16s} {e.operation:28s} {e.line}" for e, n in sorted(self.events.items()))


def _line() -> str:
    """The innermost line of tillerman or transformers: what a hook of ours does is ours, inside their code too."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        for home, called in ((OURS, "tillerman"), (THEIRS, "transformers")):
            if name.startswith(home):
                return f"{called}{name[len(home) :]}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"
