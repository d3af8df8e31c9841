"""Whether items fit the model's context, asked before the first pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tillerman.core.errors import DataError
from tillerman.data.writing import Writer
from tillerman.evaluation.exam import Exam


def ensure_fits(shares: Mapping[str, Exam], closing: int = 0) -> None:
    """``DataError`` that names the first item too long for its model, and both lengths. ``closing``: tokens after an
    answer. An answer to an open question may be as long as its limit."""
    too_long = [
        (name, exam, i, length)
        for name, exam in shares.items()
        for i, length in enumerate(lengths(exam))
        if exam.opened.context is not None and length + closing > exam.opened.context
    ]
    if not too_long:
        return
    name, exam, i, length = too_long[0]
    example, written = exam.items[i].example, exam.written[i]
    asked = " ".join((example.question or example.options[0]).split())[:60]
    answers = (
        f"up to {exam.limit} for its answer (`answer_tokens`)"
        if example.kind == "open"
        else f"{length - len(written.prompt) + closing} for its longest answer"
    )
    rest = f" {len(too_long)} of {sum(len(one.items) for one in shares.values())} items are too long."
    raise DataError(
        f"the {name} item {example.id} ({asked!r}) needs {length + closing} tokens ({len(written.prompt)} for its "
        f"prompt, {answers}), and {exam.opened.id} reads {exam.opened.context}.{rest} Shorten them, leave them out "
        "(`skip_long`), or take a model with a longer context"
    )


def ensure_prompt_fits(prompt: str, exams: Sequence[Exam], writer: Writer) -> None:
    """``DataError`` where an item does not fit the model's context behind that system prompt."""
    if not fits_under(prompt, exams, writer):
        opened = exams[0].opened
        longest = max(length for exam in exams for length in lengths(exam))
        quoted = " ".join(prompt.split())[:60].rstrip()
        raise DataError(
            f"`prompt` {quoted!r} adds {_added(prompt, writer)} tokens to items of up to "
            f"{longest}, and {opened.id} reads {opened.context}. Shorten the prompt, or take a model with a longer "
            "context"
        )


def fits_under(prompt: str, exams: Sequence[Exam], writer: Writer) -> bool:
    """Whether every item, as ``writer`` writes it and with its longest answer, fits the model's context behind that
    system prompt."""
    context = exams[0].opened.context
    longest = max((length for exam in exams for length in lengths(exam)), default=0)
    return context is None or longest + _added(prompt, writer) <= context


def _added(prompt: str, writer: Writer) -> int:
    """By how many tokens a system prompt makes a question longer."""
    told = writer.with_system(prompt)
    return len(told.encode(told.prompt_text("?"))) - len(writer.encode(writer.prompt_text("?")))


def lengths(exam: Exam) -> list[int]:
    """Tokens of each item with its longest answer."""
    return [
        len(written.prompt) + (exam.limit if item.example.kind == "open" else max(map(len, written.answers)))
        for item, written in zip(exam.items, exam.written, strict=True)
    ]


def fitting(exam: Exam, closing: int = 0) -> Exam:
    """The items that fit the model's context; ``closing``: tokens after an answer."""
    context = exam.opened.context
    if context is None:
        return exam
    kept = [i for i, length in enumerate(lengths(exam)) if length + closing <= context]
    items, written = tuple(exam.items[i] for i in kept), tuple(exam.written[i] for i in kept)
    return Exam(exam.opened, items, written, exam.limit)
