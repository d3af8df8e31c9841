"""The questions that are answered on both sides: ready ones, and those that a writer is asked for.

A question's share (train, validation, test) follows from its text alone, so that the same question is never learned
from in one data set and tested in another.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files

from tillerman.data.making.lists import distinct, read_list
from tillerman.data.samples import WAYS_OF_WRITING, sample_rows
from tillerman.data.splits import hash_fraction

LONGEST_QUESTION, FEWEST_WORDS = 200, 3
_SUBJECTS = (
    "everyday life and the household",
    "nature and science",
    "food, health and the body",
    "travel, places and history",
    "work, school and money",
    "people, feelings and advice",
    "books, music, films and games",
    "machines, tools and how things are made",
)


def ready_questions() -> tuple[str, ...]:
    """Everyday questions: those of the embedded ways of writing, then more of the same kind."""
    shared = [json.loads(row)["prompt"] for row in sample_rows(WAYS_OF_WRITING[0])]
    more = files(__package__).joinpath("questions.txt").read_text(encoding="utf-8").splitlines()
    return tuple(dict.fromkeys(text.strip() for text in (*shared, *more) if text.strip()))


def question_request(count: int, number: int) -> str:
    """What a writer is asked; ``number`` counts the requests, each about a subject of its own."""
    subject = _SUBJECTS[number % len(_SUBJECTS)]
    return (
        f"Write {count} different questions that people ask a chat assistant about {subject}. Each is one short "
        "sentence with a question mark and can be answered in many ways of speaking. Write them as a numbered list and "
        "write nothing else."
    )


def read_questions(reply: str) -> tuple[str, ...]:
    """The questions of a writer's list; what is no question is left out."""
    return usable_questions(read_list(reply))


def usable_questions(texts: Sequence[str]) -> tuple[str, ...]:
    """Those that end in a question mark, of ``FEWEST_WORDS`` words or more, not too long, and no near-duplicates."""
    good = [t for t in texts if t.endswith("?") and len(t.split()) >= FEWEST_WORDS and len(t) <= LONGEST_QUESTION]
    return distinct(good)


def in_drawn_order(questions: Sequence[str], seed: int = 0) -> tuple[str, ...]:
    """In an order of their own for every seed, which does not depend on the others."""
    return tuple(sorted(dict.fromkeys(questions), key=lambda text: (hash_fraction(f"asked {text}", seed), text)))
