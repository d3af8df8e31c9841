"""How an example is shown: its option order and the answers a model can give."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tillerman.core.errors import DataError
from tillerman.data.examples import Example
from tillerman.data.prompts import LETTERS, choice_text


@dataclass(frozen=True)
class Item:
    """An example as shown. ``answers`` are what the model may say, ``texts`` what they stand for;
    ``right`` indexes both."""

    example: Example
    prompt: str  # with the option list, if the kind has one
    answers: tuple[str, ...]
    texts: tuple[str, ...]
    right: int


def present(examples: Iterable[Example], seed: int = 0, *, keep_order: bool = False) -> tuple[Item, ...]:
    """Show each example. The option order is drawn per item from (seed, item id), never per data set:
    one order for all makes the right letter a constant (see docs/design/decisions.md). ``keep_order``: as the
    data have it."""
    return tuple(_present(example, None if keep_order else seed) for example in examples)


def turned(items: Iterable[Item]) -> tuple[Item, ...]:
    """Lettered items in all their other option orders by rotation, k - 1 of each: over these and the item itself
    the right answer has every letter once."""
    return tuple(_turned(item, by) for item in items for by in range(1, len(item.answers)))


def _turned(item: Item, by: int) -> Item:
    texts = (*item.texts[by:], *item.texts[:by])
    right = (item.right - by) % len(texts)
    return replace(item, prompt=choice_text(item.example.question, texts), texts=texts, right=right)


def lengthened(item: Item, text: str) -> Item:
    """The item with a text right after its question, its options in the order they had."""
    question = item.example.question.rstrip() + text
    listed = item.example.kind == "choice"
    return replace(item, prompt=choice_text(question, item.texts) if listed else question)


def open_form(item: Item) -> Item:
    """A lettered item without its list of options, answered with their texts; others as they are."""
    if item.example.kind != "choice":
        return item
    return replace(item, prompt=item.example.question, answers=item.texts)


def shown_orders(items: Sequence[Item]) -> list[int] | None:
    """Where the right option is shown, item by item; None for data without lettered options."""
    return [item.right for item in items] if all(i.example.kind == "choice" for i in items) else None


def offsets_of(item: Item, calibration: Sequence[tuple[str, float]]) -> tuple[float, ...]:
    """The bias of each of the item's answers in nats, 0 for one that is not known; empty without any, and for free
    texts, which have none."""
    words = item.example.kind in ("choice", "yes_no")
    known = {answer.casefold(): nats for answer, nats in calibration if words}
    return tuple(known.get(answer.strip().casefold(), 0.0) for answer in item.answers) if known else ()


def options_shown(item: Item) -> tuple[str, ...]:
    """The options in the order shown, with their letters where they have some; none of an open question."""
    if item.example.kind == "open":
        return ()
    pairs = zip(item.answers, item.texts, strict=True)
    return tuple(text if answer == text else f"{answer}: {text}" for answer, text in pairs)


def as_choices(examples: Iterable[Example]) -> tuple[Example, ...]:
    """Yes/no questions as lettered multiple choice; other kinds unchanged."""
    return tuple(replace(e, kind="choice") if e.kind == "yes_no" else e for e in examples)


def _present(example: Example, seed: int | None) -> Item:
    order = list(range(len(example.options)))
    if seed is not None:
        random.Random(f"{seed} {example.id}").shuffle(order)
    texts = tuple(example.options[i] for i in order)
    right = order.index(example.answer)
    if example.kind != "choice":
        return Item(example, example.question, texts, texts, right)
    if len(texts) > len(LETTERS):
        raise DataError(f"{len(texts)} options; at most {len(LETTERS)} have letters", field="options")
    return Item(example, choice_text(example.question, texts), tuple(LETTERS[: len(texts)]), texts, right)
