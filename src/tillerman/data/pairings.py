"""Pairings: the rules that turn items into contrast sets, one function each.

``predictions[i]`` is the unsteered model's answer to item i.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from tillerman.core.errors import FitError
from tillerman.core.rows import ContrastSet, Row
from tillerman.data.presenting import Item
from tillerman.data.writing import Writer

_FOR_OPEN = "give choices or preferences, or use prompt-contrast, prompt-vector or rice"


def caa(items: Sequence[Item], writer: Writer) -> ContrastSet:
    """The full prompt with the wanted answer against the same prompt with another one, read on the
    answer (Rimsky et al., arXiv 2312.06681, section 3; CAE section 2)."""
    written = [writer.write(item) for item in items]
    return ContrastSet(
        tuple(writer.answer_row(w, item.right) for w, item in zip(written, items, strict=True)),
        tuple(writer.answer_row(w, another(item)) for w, item in zip(written, items, strict=True)),
        paired=True,
    )


def pas_full(items: Sequence[Item], predictions: Sequence[int], writer: Writer) -> ContrastSet:
    """Full prompts answered right against full prompts answered wrong (PAS section 3.2, PASf)."""
    _need_answers(items, predictions, "pas-full")
    right, wrong = _by_outcome(items, predictions, "pas-full")
    rows = {side: tuple(_prompt_row(writer, i) for i, _ in members) for side, members in (("+", right), ("-", wrong))}
    return ContrastSet(rows["+"], rows["-"], paired=False)


def ipas_all(items: Sequence[Item], predictions: Sequence[int], writer: Writer) -> ContrastSet:
    """Question + the correct choice of items answered right, against question + the model's choice of
    items answered wrong (PAS section 3.2, iPASa)."""
    _need_answers(items, predictions, "ipas-all")
    right, wrong = _by_outcome(items, predictions, "ipas-all")
    return ContrastSet(
        tuple(writer.answer_row(writer.write_statements(item), item.right) for item, _ in right),
        tuple(writer.answer_row(writer.write_statements(item), said) for item, said in wrong),
        paired=False,
    )


def ipas_wrong(items: Sequence[Item], predictions: Sequence[int], writer: Writer) -> ContrastSet:
    """For items answered wrong only: question + the correct choice against question + the model's
    choice (PAS section 3.2, iPASwo)."""
    _need_answers(items, predictions, "ipas-wrong")
    wrong = [(item, said) for item, said in zip(items, predictions, strict=True) if said != item.right]
    if not wrong:
        raise FitError(
            "ipas-wrong: the model answers every training item correctly, so there is no mistake to learn from"
        )
    written = [(writer.write_statements(item), item.right, said) for item, said in wrong]
    return ContrastSet(
        tuple(writer.answer_row(w, right) for w, right, _ in written),
        tuple(writer.answer_row(w, said) for w, _, said in written),
        paired=True,
    )


def prompt_vector(texts: tuple[str, str], writer: Writer) -> ContrastSet:
    """The prompt as the user's message against an empty one (or the opposite prompt), each read at a blank
    with which the model's turn begins (STA, arXiv 2505.20322, section on prompts). One pair; no item is read."""
    wanted, other = (writer.bare_row(text) for text in texts)
    return ContrastSet((wanted,), (other,), paired=True)


def prompt_contrast(items: Sequence[Item], texts: tuple[str, str], writer: Writer) -> ContrastSet:
    """Every question under the prompt as system prompt against the same question without it (or under the
    opposite prompt), read where the answer begins. No label is read."""
    if any(item.example.kind == "text" for item in items):
        raise FitError("prompt-contrast asks questions under a prompt; labelled texts have none: use prompt-vector")
    wanted, other = texts
    sides = [writer.with_system(wanted), writer.with_system(other) if other else writer]
    rows = [tuple(_prompt_row(side, item) for item in items) for side in sides]
    return ContrastSet(rows[0], rows[1], paired=True)


def another(item: Item) -> int:
    """The answer that a wanted one is contrasted with, drawn from a hash of the item."""
    others = [i for i in range(len(item.answers)) if i != item.right]
    if not others:
        raise FitError(f"an open question has one answer and no other to contrast it with: {_FOR_OPEN}")
    return random.Random(item.example.id).choice(others)


def _prompt_row(writer: Writer, item: Item) -> Row:
    prompt = writer.write(item).prompt
    return Row(prompt, len(prompt) - 1)


def _need_answers(items: Sequence[Item], predictions: Sequence[int], name: str) -> None:
    if any(item.example.kind == "text" for item in items):
        raise FitError(f"{name} needs questions with answers; labelled texts have none: use --method caa")
    if any(item.example.kind == "open" for item in items):
        raise FitError(f"{name} needs answers to choose from; open questions have none: {_FOR_OPEN}")
    if any(said < 0 for said in predictions):
        raise FitError(f"{name}: the unsteered model's scores are not finite; open it in float32")


def _by_outcome(
    items: Sequence[Item], predictions: Sequence[int], name: str
) -> tuple[list[tuple[Item, int]], list[tuple[Item, int]]]:
    both = list(zip(items, predictions, strict=True))
    right = [(item, said) for item, said in both if said == item.right]
    wrong = [(item, said) for item, said in both if said != item.right]
    if not wrong:
        raise FitError(
            f"{name}: the model answers all {len(both)} training items correctly, so there is no mistake to learn from"
        )
    if not right:
        raise FitError(
            f"{name}: the model answers all {len(both)} training items wrongly; check the labels and the prompt format "
            "('tillerman check'), or use ipas-wrong or caa, which need no right answers"
        )
    return right, wrong
