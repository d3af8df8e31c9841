"""Which class of labelled texts is steered towards: said by the user, by the label itself, or asked for."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tillerman.core.errors import DataError
from tillerman.core.shown import clipped
from tillerman.data.fields import FALSE_WORDS, TRUE_WORDS, label_text
from tillerman.data.reading.rows import SourceRow

_SIDES = TRUE_WORDS | FALSE_WORDS
_FEW = 0.1  # a label on fewer of the rows is a bad row, on more a class


def with_sides(rows: Sequence[SourceRow], positive: str, place: str) -> Iterator[SourceRow]:
    """Rows whose label is 1 for the positive class and 0 for every other; missing labels stay missing."""
    wanted = label_text(positive)
    found = Counter(label_text(row.fields.get("label")) for row in rows)
    if wanted not in found:
        raise DataError(
            f"no row has the label {clipped(positive, 40)!r}; found {listed(found)}", file=place, field="label"
        )
    for row in rows:
        shown = label_text(row.fields.get("label"))
        yield replace(row, fields={**row.fields, "label": str(int(shown == wanted))}) if shown else row


def ask_for_class(rows: Sequence[SourceRow]) -> None:
    """``DataError`` where the labels are classes of which none says that it is the wanted one."""
    labels = [label_text(row.fields.get("label")) for row in rows]
    unclear = [i for i, label in enumerate(labels) if label and label.casefold() not in _SIDES]
    if len(unclear) <= _FEW * sum(map(bool, labels)):
        return
    first = labels[unclear[0]]
    raise rows[unclear[0]].error(
        f"which class to steer towards? The labels are {listed(Counter(filter(None, labels)))}; only 1/0, true/false, "
        f"yes/no and positive/negative say so themselves. Name one, the others are then the other side: "
        f"{positive_option(first)}",
        "label",
    )


def positive_option(label: str) -> str:
    """The option that names a class, in Python and on the command line."""
    return f"positive_label={label!r} (--positive {shlex.quote(label)})"


def listed(counts: Counter[str]) -> str:
    shown = ", ".join(f"{clipped(label, 30)!r} ({count})" for label, count in counts.most_common(8))
    return f"{shown}, and {len(counts) - 8} more" if len(counts) > 8 else shown
