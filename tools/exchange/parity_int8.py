"""Hold three artefacts under ``steer`` in float32 against the same on the model opened with ``--quantize int8``.

    python tools/exchange/parity_int8.py MODEL

Printed: KL of steering itself, between both ways steered, and between both unsteered, which is what rounding the
weights does anyway.
"""

from __future__ import annotations

import sys

from three import Compared, three

import tillerman
from tillerman.exchange.parity import compared, next_logprobs
from tillerman.models.opened import OpenModel


def row(opened: OpenModel, rounded: OpenModel, one: Compared) -> tuple[float, float, float]:
    """KL in nats per token: of steering, of int8 to float32 steered, and unsteered."""
    plain, int8 = (next_logprobs(model, model.model, one.prompts) for model in (opened, rounded))
    with tillerman.steer(opened, one.artefact):
        steered = next_logprobs(opened, opened.model, one.prompts)
    with tillerman.steer(rounded, one.artefact):
        also = next_logprobs(rounded, rounded.model, one.prompts)
    found = compared(plain, steered, also)
    return found.moved, found.kl, compared(plain, plain, int8).kl


def main(source: str) -> None:
    opened = tillerman.open_model(source, dtype="float32")
    rounded = tillerman.open_model(source, dtype="float32", quantize="int8")
    for one in three(opened):
        moved, steered, plain = row(opened, rounded, one)
        sys.stdout.write(f"| `{one.name}` | {moved:.3g} | {steered:.1e} | {plain:.1e} |\n")


if __name__ == "__main__":
    main(sys.argv[1])
