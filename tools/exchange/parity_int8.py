"""Hold three artefacts under ``steer`` in float32 against the same on the model opened with ``--quantize int8``.

    python tools/exchange/parity_int8.py MODEL

The vectors, prompts and dose are those of ``parity.py``. Printed: KL of steering itself, between both ways steered, and
between both unsteered, which is what rounding the weights does anyway.
"""

from __future__ import annotations

import sys

import tillerman
from tillerman.data.loading import LoadedData, load_examples
from tillerman.exchange.items import exam_of
from tillerman.exchange.parity import compared, next_logprobs
from tillerman.models.opened import OpenModel

SAMPLES = ("pirate", "cheerful", "french")
LAYER, DOSE, PROMPTS = 14, 0.1, 12


def row(opened: OpenModel, rounded: OpenModel, name: str) -> tuple[float, float, float]:
    """KL in nats per token: of steering, of int8 to float32 steered, and unsteered."""
    data = load_examples(f"sample:{name}")
    train, rest = data.examples[:20], data.examples[20:]
    wanted = [example.options[example.answer] for example in train]
    others = [example.options[1 - example.answer] for example in train]
    artefact = tillerman.vector_from(opened, wanted, others, layers=LAYER, dose=DOSE)
    exam = exam_of(opened, artefact.steering.provenance, LoadedData(rest, data.name, data.layout, "", ()), PROMPTS)
    prompts = [written.prompt for written in exam.written]
    plain, int8 = (next_logprobs(one, one.model, prompts) for one in (opened, rounded))
    with tillerman.steer(opened, artefact):
        steered = next_logprobs(opened, opened.model, prompts)
    with tillerman.steer(rounded, artefact):
        also = next_logprobs(rounded, rounded.model, prompts)
    found = compared(plain, steered, also)
    return found.moved, found.kl, compared(plain, plain, int8).kl


def main(source: str) -> None:
    opened = tillerman.open_model(source, dtype="float32")
    rounded = tillerman.open_model(source, dtype="float32", quantize="int8")
    for name in SAMPLES:
        moved, steered, plain = row(opened, rounded, name)
        sys.stdout.write(f"| `{name}` | {moved:.3g} | {steered:.1e} | {plain:.1e} |\n")


if __name__ == "__main__":
    main(sys.argv[1])
