"""How a value shows itself at a prompt: one line that is never long, and in a notebook a small table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from html import escape

from tillerman.core.escaping import visible

LONGEST = 1000  # bytes of a repr; a value may hold a whole model
_FACT = 120  # characters of one fact


class Shown(ABC):
    """A value that says of itself what a reader asks first. Its dataclass is declared with ``repr=False``."""

    @abstractmethod
    def shown(self) -> Mapping[str, object]:
        """Label and fact, the most important ones first."""

    def __repr__(self) -> str:
        facts = "".join(f" | {label}: {visible(clipped(str(fact), _FACT))}" for label, fact in self.shown().items())
        line = f"<{type(self).__name__}{facts}>".encode()
        return line.decode() if len(line) <= LONGEST else line[: LONGEST - 4].decode(errors="ignore") + "...>"

    def _repr_html_(self) -> str:
        """Everything escaped; no style but the notebook's own."""
        rows = "".join(
            f'<tr><th scope="row">{escape(label)}</th><td>{escape(clipped(str(fact), 4 * _FACT))}</td></tr>'
            for label, fact in self.shown().items()
        )
        return f"<table><caption>{escape(type(self).__name__)}</caption><tbody>{rows}</tbody></table>"


def clipped(text: str, length: int) -> str:
    """One line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 3] + "..."
