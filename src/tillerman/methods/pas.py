"""PAS: what the unsteered model gets right and wrong makes the two sides (arXiv 2509.22739, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tillerman.core.rows import ContrastSet
from tillerman.data import pairings
from tillerman.methods.base import Context
from tillerman.methods.contrast import EstimatedMethod


@dataclass(frozen=True)
class PasFull(EstimatedMethod):
    """Full prompts answered right against full prompts answered wrong."""

    name: ClassVar[str] = "pas-full"

    def pair(self, context: Context) -> ContrastSet:
        return pairings.pas_full(context.items, context.predictions(), context.sides_writer)


@dataclass(frozen=True)
class IpasAll(EstimatedMethod):
    """Right answers to what the model answers right against its answers to what it answers wrong."""

    name: ClassVar[str] = "ipas-all"

    def pair(self, context: Context) -> ContrastSet:
        return pairings.ipas_all(context.items, context.predictions(), context.sides_writer)


@dataclass(frozen=True)
class IpasWrong(EstimatedMethod):
    """Of what the model answers wrong, the right answer against its own."""

    name: ClassVar[str] = "ipas-wrong"

    def pair(self, context: Context) -> ContrastSet:
        return pairings.ipas_wrong(context.items, context.predictions(), context.sides_writer)
