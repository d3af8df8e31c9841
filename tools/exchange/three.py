"""The three artefacts that the tables of parity are made of, and the prompts on which they are compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import tillerman
from tillerman.core.artefact import Artefact
from tillerman.data.loading import LoadedData, load_examples
from tillerman.exchange.items import exam_of
from tillerman.models.opened import OpenModel

LAYER, DOSE, PROMPTS = 14, 0.1, 12


@dataclass(frozen=True, eq=False)
class Compared:
    name: str
    artefact: Artefact
    prompts: list[tuple[int, ...]]


def three(opened: OpenModel) -> Iterator[Compared]:
    """The mean difference of 20 pairs of a sample, and held-out prompts of it as the model is asked them."""
    for name in ("pirate", "cheerful", "french"):
        data = load_examples(f"sample:{name}")
        train, rest = data.examples[:20], data.examples[20:]
        wanted = [example.options[example.answer] for example in train]
        others = [example.options[1 - example.answer] for example in train]
        artefact = tillerman.vector_from(opened, wanted, others, layers=LAYER, dose=DOSE)
        held_out = LoadedData(rest, data.name, data.layout, "", ())
        exam = exam_of(opened, artefact.steering.provenance, held_out, PROMPTS)
        yield Compared(name, artefact, [written.prompt for written in exam.written])
