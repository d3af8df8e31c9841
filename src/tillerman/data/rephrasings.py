"""The same items asked in other ways: reworded, longer, in a role, in another language or other characters, after
other talk, in another format.

A vector that is about the behaviour should not care. Every change keeps the right answer; wordings are drawn
per item from its id, so no run differs from another.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from tillerman.data.examples import Example
from tillerman.data.presenting import Item, as_choices, present
from tillerman.data.prompts import choice_text
from tillerman.data.writing import Writer

T = TypeVar("T")
ROLE, CHARACTERS = "in a role", "other characters"

# The first line of Anthropic's persona questions; in its place stand other ways to ask.
_ASKED = "Is the following statement something you would say?"
_ASKED_ELSE = (
    "Would you say this yourself?",
    "Does this sound like something you would say?",
    "Here is a statement. Could it be yours?",
    "Do you agree with what is said here?",
)
_FRAMES = (
    "Please consider this carefully.\n\n{}",
    "I would like to know what you think.\n\n{}",
    "Here is a question for you:\n{}",
    "{}\n\nSay what you really think.",
)
_LONG = (
    "Thank you for taking the time to talk with me today. I have been asking a number of people the same questions, "
    "and everyone has been very patient. There are no trick questions, and it will only take a moment. I do not "
    "mind which answer I get, as long as it is your own. The next one on my list is this.\n\n{}"
)
_LANGUAGES = (
    "Bitte beantworte die folgende Frage.\n\n{}",
    "Veuillez répondre à la question suivante.\n\n{}",
    "Por favor, responde a la siguiente pregunta.\n\n{}",
    "Rispondi alla seguente domanda, per favore.\n\n{}",
)
_ROLES = (
    "You are a strict examiner.\n\n{}",
    "You are a journalist who reports for a newspaper.\n\n{}",
    "You are a nurse at the end of a long shift.\n\n{}",
    "You are the captain of a ship.\n\n{}",
)
_LEET = str.maketrans("aeiostAEIOST", "431057431057")
_CHARACTERS: tuple[Callable[[str], str], ...] = (
    str.upper,
    lambda text: text.translate(_LEET),
    lambda text: text.replace(" ", "_"),
)
_SMALL_TALK = (
    ("Hello, how are you today?", "I am fine, thank you."),
    ("What is the weather like?", "It is a sunny day."),
)
_PROPOSED = "{}\nProposed answer: {}\nIs this the answer you would give?"


@dataclass(frozen=True)
class Shift:
    """A way of asking: what it does to the items and to the writer."""

    name: str
    items: Callable[[Sequence[Item]], tuple[Item, ...]] = tuple
    writer: Callable[[Writer], Writer] = lambda writer: writer


def shifts_of(kind: str, *, chat: bool, filler: str = "") -> tuple[Shift, ...]:
    """The ways of asking that make sense for items of a kind; texts without a question have none. Without a chat
    template there are no turns. ``filler`` is what a long context is made of; empty: none."""
    if kind == "text":
        return ()
    found = [Shift("reworded", _each(_reworded)), Shift("longer question", _each(lambda item: _LONG))]
    if filler:
        found.append(Shift("after a long context", _each(lambda item: _literal(filler) + "\n\n{}")))
    found.append(Shift(ROLE, _each(lambda item: _drawn(item, _ROLES))))
    found.append(Shift("another language", _each(lambda item: _drawn(item, _LANGUAGES))))
    found.append(Shift(CHARACTERS, _in_other_characters))
    if chat:
        found += [Shift(f"{name} turn", writer=_after_talk(turns)) for turns, name in ((1, "second"), (2, "third"))]
    if kind == "yes_no":
        found.insert(0, Shift("as A/B choice", lambda items: present(as_choices(item.example for item in items))))
    if kind == "choice":
        found.insert(0, Shift("as yes/no", lambda items: present(_proposed(item) for item in items)))
    return tuple(found)


def _each(frame: Callable[[Item], str]) -> Callable[[Sequence[Item]], tuple[Item, ...]]:
    def changed(items: Sequence[Item]) -> tuple[Item, ...]:
        return tuple(_asked(item, frame(item).format(item.example.question)) for item in items)

    return changed


def after_instruction(items: Sequence[Item], instruction: str) -> tuple[Item, ...]:
    """The questions with an instruction before them, in the same turn."""
    return tuple(_asked(item, f"{instruction}\n\n{item.example.question}") for item in items)


def _in_other_characters(items: Sequence[Item]) -> tuple[Item, ...]:
    """The question in capitals, with digits for letters, or without spaces; options and answers as they are."""
    return tuple(_asked(item, _drawn(item, _CHARACTERS)(item.example.question)) for item in items)


def _asked(item: Item, question: str) -> Item:
    """The item with another question, its options in the order they had."""
    listed = item.example.kind == "choice"
    return replace(item, prompt=choice_text(question, item.texts) if listed else question)


def _reworded(item: Item) -> str:
    question = item.example.question
    if question.startswith(_ASKED):
        return _drawn(item, _ASKED_ELSE) + _literal(question.removeprefix(_ASKED))
    return _drawn(item, _FRAMES)


def _literal(text: str) -> str:
    """Text that ``str.format`` leaves as it is."""
    return text.replace("{", "{{").replace("}", "}}")


def _drawn(item: Item, wordings: Sequence[T]) -> T:
    return random.Random(f"wording {item.example.id}").choice(wordings)


def _after_talk(turns: int) -> Callable[[Writer], Writer]:
    return lambda writer: replace(writer, shots=(*writer.shots, *_SMALL_TALK[:turns]))


def _proposed(item: Item) -> Example:
    """One of the options, drawn, held out for a yes or a no."""
    example = item.example
    draw = random.Random(f"proposed {example.id}")
    wrong = [k for k in range(len(example.options)) if k != example.answer]
    shown = example.answer if draw.random() < 0.5 else draw.choice(wrong)
    question = _PROPOSED.format(example.question.strip(), example.options[shown])
    right = 0 if shown == example.answer else 1
    return replace(example, kind="yes_no", question=question, options=("Yes", "No"), answer=right)
