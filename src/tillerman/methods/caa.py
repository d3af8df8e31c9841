"""CAA: the wanted answer against another one (Rimsky et al., arXiv 2312.06681, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tillerman.methods.contrast import EstimatedMethod


@dataclass(frozen=True)
class Caa(EstimatedMethod):
    """The usual pairing, ``data.pairings.caa``: every item's prompt with the wanted answer, and with another."""

    name: ClassVar[str] = "caa"
