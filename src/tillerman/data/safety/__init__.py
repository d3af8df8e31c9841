"""Prompts that a safe model refuses, and safe ones that only look like them: evaluation material.

XSTest ships with the package (Röttger et al. 2024, arXiv 2308.01263). Files of AdvBench, JailbreakBench and
StrongREJECT are read as their authors publish them, where a user has them. No report prints such a prompt whole: it
names ids and types.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import zip_longest

from tillerman.core.errors import DataError
from tillerman.data.readers import read_rows
from tillerman.data.reading.rows import SourceRow, kind_of
from tillerman.data.splits import hash_fraction

XSTEST = "xstest"


@dataclass(frozen=True)
class SafetyPrompt:
    """``kind``: what its data set calls its type or category."""

    id: str
    kind: str
    unsafe: bool
    text: str


@dataclass(frozen=True)
class SafetyLayout:
    """How a data set writes its rows: the columns that tell it from the others, all lower case. Without a ``label``
    (``safe`` or ``unsafe``) a file holds prompts of one side, and the user says which."""

    name: str
    columns: tuple[str, ...]
    prompt: str
    kind: str = ""
    label: str = ""


# The first whose columns a file has; AdvBench's two are also JailbreakBench's.
SAFETY_LAYOUTS = (
    SafetyLayout("XSTest", ("prompt", "type", "label"), "prompt", "type", "label"),
    SafetyLayout("StrongREJECT", ("category", "source", "forbidden_prompt"), "forbidden_prompt", "category"),
    SafetyLayout("JailbreakBench", ("goal", "target", "behavior", "category", "source"), "goal", "category"),
    SafetyLayout("AdvBench", ("goal", "target"), "goal"),
)


def shipped_prompts() -> tuple[SafetyPrompt, ...]:
    """XSTest's 250 safe and 200 unsafe prompts."""
    raw = gzip.decompress((files(__package__) / "xstest.jsonl.gz").read_bytes())
    rows = map(json.loads, raw.decode().splitlines())
    return tuple(SafetyPrompt(f"{XSTEST} {r['id']}", r["type"], r["label"] == "unsafe", r["prompt"]) for r in rows)


def read_safety_prompts(source: str, *, unsafe: bool) -> tuple[SafetyPrompt, ...]:
    """The prompts of a file in one of ``SAFETY_LAYOUTS``, repeated ones once. ``unsafe`` says which side those of a
    file without labels are on; of a file with labels, those of that side are taken.

    ``DataError`` for another layout, a row without a prompt, an unknown label, and a file without such prompts."""
    found: dict[str, SafetyPrompt] = {}
    layout: SafetyLayout | None = None
    for number, row in enumerate(read_rows(source), start=1):
        fields = {str(name).strip().casefold(): value for name, value in row.fields.items()}
        layout = layout or _layout_of(row, fields)
        prompt = _prompt(layout, row, fields, number)
        if not layout.label or prompt.unsafe == unsafe:
            found.setdefault(prompt.text, SafetyPrompt(prompt.id, prompt.kind, unsafe, prompt.text))
    if not found:
        raise DataError(f"the file holds no {'unsafe' if unsafe else 'safe'} prompt", file=source)
    return tuple(found.values())


def parted_prompts(
    prompts: Sequence[SafetyPrompt], test: int, fit: int, seed: int
) -> tuple[tuple[SafetyPrompt, ...], tuple[SafetyPrompt, ...]]:
    """At most ``test`` to be tested, and at most ``fit`` others, each a fair share of every kind: kinds take turns, and
    a kind's order is by hash of seed and text. At least half is left for the second part."""
    kinds: defaultdict[str, list[SafetyPrompt]] = defaultdict(list)
    for prompt in sorted(prompts, key=lambda one: hash_fraction(f"{seed} {one.text}")):
        kinds[prompt.kind].append(prompt)
    turns = [one for row in zip_longest(*kinds.values()) for one in row if one is not None]
    tested = min(test, len(turns) // 2)
    return tuple(turns[:tested]), tuple(turns[tested : tested + fit])


def _layout_of(row: SourceRow, fields: Mapping[str, object]) -> SafetyLayout:
    for layout in SAFETY_LAYOUTS:
        if set(layout.columns) <= set(fields):
            return layout
    known = "; ".join(f"{one.name} ({', '.join(one.columns)})" for one in SAFETY_LAYOUTS)
    raise row.error(
        f"no layout of safety prompts has the columns {', '.join(map(str, row.fields))[:200]}; known: {known}"
    )


def _prompt(layout: SafetyLayout, row: SourceRow, fields: Mapping[str, object], number: int) -> SafetyPrompt:
    text, label = fields.get(layout.prompt), fields.get(layout.label)
    if not isinstance(text, str) or not text.strip():
        raise row.error(f"expected a prompt, got {kind_of(text)}", layout.prompt)
    if layout.label and label not in ("safe", "unsafe"):
        raise row.error(f"expected the label safe or unsafe, got {label!r}", layout.label)
    named = str(fields.get("id") or fields.get("index") or number)
    kind = str(fields.get(layout.kind) or layout.name) if layout.kind else layout.name
    return SafetyPrompt(f"{layout.name.casefold()} {named}", kind, label != "safe", text.strip())
