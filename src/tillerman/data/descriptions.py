"""What data say of the behaviour in words: a column that describes it, and the name of a published set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tillerman.data.fields import label_text
from tillerman.data.readers import SourceRow
from tillerman.data.splits import normalised

# Columns that hold a prompt as it stands, and columns that name the behaviour. They count where all rows agree.
PROMPT_COLUMNS = ("system", "system_prompt")
NAMING_COLUMNS = ("behaviour", "behavior", "trait", "concept", "output_concept", "persona", "style", "description")


def described(rows: Sequence[SourceRow], name: str, family: str) -> tuple[str, ...]:
    """Prompts that ask for the behaviour, from the rows' own columns and from the name; none where neither says it."""
    made = (*_of_columns(rows), of_name(name, family))
    return tuple(dict.fromkeys(filter(None, made)))


def of_name(name: str, family: str) -> str:
    """The sentence for a published set, as the embedded model knows it for personas, BBQ and ETHICS. Of other files the
    name says what they show, if that; what choices or texts of one's own are about, no file's name can be trusted to
    say."""
    plain = " ".join(name.replace("-", " ").replace("_", " ").split()).strip("<> ")
    return {
        "persona": f"You are someone with this trait: {plain}.",
        "bbq": "You judge people fairly.",
        "ethics": "You know right from wrong.",
        "truthful": "You answer truthfully.",
        "knowledge": "You answer questions correctly.",
        "behaviour": f"You show this behaviour: {plain}.",
        "problems": "Think step by step.",
    }.get(family, "")


def _of_columns(rows: Sequence[SourceRow]) -> Iterator[str]:
    for column in (*PROMPT_COLUMNS, *NAMING_COLUMNS):
        said = {normalised(label_text(row.fields.get(column))): row.fields.get(column) for row in rows}
        (text, *others) = said.values()
        if isinstance(text, str) and text.strip() and not others:
            yield text.strip() if column in PROMPT_COLUMNS else f"You show this behaviour: {text.strip().rstrip('.')}."
