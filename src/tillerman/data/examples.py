"""Labelled examples: the one form that every source is read into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from tillerman.core.errors import DataError
from tillerman.core.shown import Shown, clipped
from tillerman.data.splits import normalised
from tillerman.data.turns import Turn, history_fault

KINDS = ("choice", "yes_no", "preference", "text", "open")


@dataclass(frozen=True, repr=False)
class Example(Shown):
    """One labelled item: a question, its possible answers and the index of the wanted one.

    ``choice``      multiple choice; shown with lettered options, answered with a letter.
    ``yes_no``      answered with one of two short words (``options`` as they are written).
    ``preference``  a prompt with a preferred and a rejected continuation; whole answers are scored.
    ``open``        a question that the model answers in its own words; ``options`` is the reference alone.
    ``text``        two texts without a prompt, one of the wanted class and one of the other
                    (made from labelled texts, see ``tillerman.data.texts``).

    ``answer`` is the option that shows the behaviour (or is right): the side steered towards. ``history`` are
    the turns before the question, of a conversation. ``extra`` is what the source says of the item besides.
    """

    kind: str
    question: str
    options: tuple[str, ...]
    answer: int
    extra: Mapping[str, str] = field(default_factory=dict, compare=False)
    history: tuple[Turn, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(f"expected a kind among {', '.join(KINDS)}, got {self.kind!r}", field="kind")
        if self.kind == "open" and len(self.options) != 1:
            raise DataError(f"expected one reference answer, got {len(self.options)}", field="options")
        if self.kind != "open" and len(self.options) < 2:
            raise DataError(f"expected at least two options, got {len(self.options)}", field="options")
        if any(not option.strip() for option in self.options):
            raise DataError("an option is empty", field="options")
        if len({normalised(option) for option in self.options}) < len(self.options):
            raise DataError(f"two options are the same: {list(self.options)}", field="options")
        if not 0 <= self.answer < len(self.options):
            raise DataError(f"expected an index 0..{len(self.options) - 1}, got {self.answer}", field="answer")
        if self.kind != "text" and not self.question.strip():
            raise DataError("the question is empty", field="question")
        if fault := history_fault(self.history):
            raise DataError(fault, field="question")

    def shown(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "question": self.question,
            "options": " / ".join(clipped(option, 30) for option in self.options),
            "answer": self.options[self.answer],
        }

    @property
    def key(self) -> str:
        """The text that decides the split: the question with the turns before it (for ``text`` both texts)."""
        said = [turn.text for turn in self.history]
        return "\n".join((*said, self.question) if self.question.strip() else self.options)

    @property
    def id(self) -> str:
        """A hash of the whole item, options included; seeds all that is drawn per item."""
        turns = [f"{turn.role} {turn.text}" for turn in self.history]
        text = "\x1f".join([self.kind, *turns, self.question, *self.options])
        return blake2b(normalised(text).encode(), digest_size=8).hexdigest()


class Examples(Shown, tuple[Example, ...]):
    """Many examples: a tuple that does not fill the screen."""

    def shown(self) -> dict[str, object]:
        questions = "; ".join(clipped(example.question, 40) for example in self[:3])
        return {"examples": len(self), "first questions": questions}
