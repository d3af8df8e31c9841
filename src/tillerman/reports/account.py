"""One result, said once. Terminal, Markdown and page render the same account and word nothing themselves."""

from __future__ import annotations

from dataclasses import dataclass

from tillerman.logs.table import Table
from tillerman.logs.verdict import Verdict


@dataclass(frozen=True)
class Named:
    """A verdict with what gave it: an evaluation, or a study."""

    source: str
    verdict: Verdict


@dataclass(frozen=True)
class Account:
    """What a result is about (``title``, and the facts in ``heading``), its tables, what else is to be known
    (``sentences``), and what follows: ``conclusion`` is one sentence, ``verdicts`` are judgements of a vector."""

    heading: str
    tables: tuple[Table, ...]
    sentences: tuple[str, ...] = ()
    conclusion: str = ""
    verdicts: tuple[Named, ...] = ()
    title: str = ""
