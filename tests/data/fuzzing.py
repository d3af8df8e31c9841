"""A seeded fuzzer over every layout of rows and every kind of file: mutants of good data are read, or refused in words.

By hand: ``python -m tests.data.fuzzing --mutants 10000``.
"""

from __future__ import annotations

import argparse
import copy
import csv
import gzip
import io
import json
import random
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tillerman.core.errors import DataError, UsageError
from tillerman.data.layouts import LAYOUTS
from tillerman.data.loading import load_examples

from .test_conversations import KTO, SAME
from .test_layouts import EXPECTED, with_other_label

Rows = list[dict[str, Any]]
LONGEST = 600  # characters of an error

_MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
_MORE: dict[str, Rows] = {
    "kto": KTO,
    "labelled-text": [{"text": f"text {i}", "label": ("1", "0", "joy")[i % 2]} for i in range(8)],
    "labelled-sentence": [{"sentence": f"text {i}", "label": i % 2} for i in range(8)],
    "messages": [{"messages": _MESSAGES}],
    "labelled-messages": [
        {"messages": [_MESSAGES[0], {**_MESSAGES[1], "content": t}], "label": t == "a"} for t in "ab"
    ],
    "columns-of-options": [
        {"question": f"Q{i}", "option_a": "x", "option_b": "y", "option_c": "z", "answer": "ABC"[i % 3]}
        for i in range(6)
    ],
}


def seeds() -> dict[str, Rows]:
    """Good rows of every layout, several of each."""
    one = {name: row for name, (row, *_) in EXPECTED.items()} | {name: row for name, (row, *_) in SAME.items()}
    rows = {name: [_numbered(row, i) for i in range(4)] for name, row in one.items()}
    return rows | _MORE


def _numbered(row: dict[str, Any], i: int) -> dict[str, Any]:
    made = copy.deepcopy(with_other_label(row) if i % 2 else row)
    if isinstance(row.get("chosen"), list):
        return made  # whose prompt is said again in the conversations
    for name in ("question", "prompt", "input", "scenario", "positive"):
        if isinstance(made.get(name), str):
            made[name] = f"{i}. {made[name]}" if i else made[name]
    return made


def _deep(levels: int) -> Any:
    found: Any = "x"
    for _ in range(levels):
        found = [found]
    return found


_NOTHING = (None, True, False, "", " ", "\n", [], {}, [[]], [None], float("nan"))
_NUMBERS = (0, 1, 2, -1, 3.5, float("inf"), 10**30, 10**5000, "1", "0", [1, 2, 3], {1: 2})
_TEXTS = ("A", "(B)", "z", "yes", "No", "=1+1", "x" * 5000, "a,b", '"', "[{", "{}", ["a", "a"], ["a"], {"a": 1})
_STRANGE = ("\ud83d", "\x00", "\x1b[31m[red]", "ab\u2028c", ["\ud83d", "b"], b"bytes", {1, 2}, object(), _deep(50))
_TURNS = (
    [{"role": "user"}],
    [{"role": 1, "content": None}],
    [{"role": "user", "content": [{"type": "image"}]}],
    [{"from": "gpt", "value": "x"}],
    "\n\nHuman: a\n\nAssistant:",
    [["a", 3]],
    [{"response": "x", "overall_score": float("nan")}],
)
_OPTIONS = (
    {"choices": None, "labels": None},
    {"choices": ["a", "\ud83d"], "labels": [0, 1]},
    {"text": None, "label": None},
    {"text": ["a", None], "label": ["A", "B"]},
    {"text": "ab", "label": "AB"},
    {"stem": None, "choices": 3},
    {"stem": "Q", "choices": [{"label": [], "text": {}}]},
    "Which? (A) x (B) y",
    "Answer1: a Answer2: b",
)
VALUES: tuple[Any, ...] = (*_NOTHING, *_NUMBERS, *_TEXTS, *_STRANGE, *_TURNS, *_OPTIONS)


def mutated(draw: random.Random, rows: Rows) -> Rows:
    """One to three changes of values, names or rows."""
    rows = copy.deepcopy(rows)
    for _ in range(draw.choice((1, 1, 2, 3))):
        draw.choice((_value, _value, _value, _inner, _inner, _drop, _rename, _swap, _row))(draw, rows)
    return rows


def _some(draw: random.Random, rows: Rows) -> Rows:
    named = [row for row in rows if isinstance(row, dict)]
    return named if draw.random() < 0.3 else [draw.choice(named)] if named else []


def _value(draw: random.Random, rows: Rows) -> None:
    name, value = _name(draw, rows), draw.choice(VALUES)
    for row in _some(draw, rows):
        row[name] = copy.deepcopy(value)


def _inner(draw: random.Random, rows: Rows) -> None:
    """A value somewhere inside a list or an object."""
    name = _name(draw, rows)
    for row in _some(draw, rows):
        place: Any = row.get(name)
        while isinstance(place, list | dict) and place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw.choice(keys)
            if not isinstance(place[key], list | dict) or draw.random() < 0.4:
                place[key] = draw.choice(VALUES)
                break
            place = place[key]


def _drop(draw: random.Random, rows: Rows) -> None:
    name = _name(draw, rows)
    for row in _some(draw, rows):
        row.pop(name, None)


def _rename(draw: random.Random, rows: Rows) -> None:
    name = _name(draw, rows)
    other = draw.choice(
        (name[1:], name.upper(), name + "\ud83d", "", name[::-1], "text", "label", "x" * 700, f"{name},=+")
    )
    for row in _some(draw, rows):
        if name in row:
            row[other] = row.pop(name)


def _swap(draw: random.Random, rows: Rows) -> None:
    one, other = _name(draw, rows), _name(draw, rows)
    for row in _some(draw, rows):
        row[one], row[other] = row.get(other), row.get(one)


def _row(draw: random.Random, rows: Rows) -> None:
    if rows:
        rows.insert(draw.randrange(len(rows)), draw.choice((draw.choice(rows), {}, draw.choice(VALUES))))


def _name(draw: random.Random, rows: Rows) -> str:
    names = [name for row in rows if isinstance(row, dict) for name in row]
    return draw.choice(names) if names else "text"


def _broken(draw: random.Random, data: bytes) -> bytes:
    """Bytes flipped, lost, put in or repeated, in a third of the files."""
    if draw.random() < 0.67 or not data:
        return data
    at, end = sorted((draw.randrange(len(data)), draw.randrange(len(data))))
    junk = draw.choice(
        (b"\xff", b"\x00", b'"', b"\n", b",", b"{", b"]", b"\xef\xbb\xbf", b"\r", bytes([draw.randrange(256)]))
    )
    return draw.choice((data[:at] + junk + data[at + 1 :], data[:at], data[:at] + data[end:], data[:end] + data[at:]))


def _as_json(rows: Rows, indent: str) -> bytes:
    lines = [json.dumps(row, default=repr) for row in rows]
    return ("[" + ",\n".join(lines) + "]" if indent else "\n".join(lines)).encode("utf-8", "surrogatepass")


def _as_table(rows: Rows, delimiter: str) -> bytes:
    names = list(dict.fromkeys(str(name) for row in rows if isinstance(row, dict) for name in row))
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(names)
    writer.writerows([str(row.get(name, "")) for name in names] for row in rows if isinstance(row, dict))
    return out.getvalue().encode("utf-8", "surrogatepass")


def _as_parquet(rows: Rows) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    names = list(dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row if isinstance(name, str)))
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows if isinstance(row, dict)]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, UnicodeError, OverflowError, TypeError, ValueError):
            text = [str(value).encode("utf-8", "surrogatepass") for value in values]
            columns[name] = pa.Array.from_buffers(pa.string(), len(text), pa.array(text, pa.binary()).buffers())
    out = io.BytesIO()
    try:
        parquet.write_table(pa.table(columns), out)
    except (pa.ArrowException, UnicodeError, ValueError):
        return b"PAR1"
    return out.getvalue()


KINDS: dict[str, Callable[[Rows], bytes]] = {
    "x.jsonl": lambda rows: _as_json(rows, ""),
    "x.json": lambda rows: _as_json(rows, "["),
    "x.csv": lambda rows: _as_table(rows, ","),
    "x.tsv": lambda rows: _as_table(rows, "\t"),
    "x.parquet": _as_parquet,
    "x.jsonl.gz": lambda rows: gzip.compress(_as_json(rows, "")),
}


def run(mutants: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """How many mutants were read and refused, and what went wrong, each with the seed that makes it again."""
    counts: Counter[str] = Counter()
    faults: list[str] = []
    good = seeds()
    for number in range(mutants):
        draw = random.Random(f"{seed} {number}")
        name = draw.choice(sorted(good))
        rows = mutated(draw, good[name])
        kind = draw.choice(("rows", "rows", *KINDS))
        source: Any = rows
        if kind != "rows":
            source = folder / kind
            try:
                source.write_bytes(_broken(draw, KINDS[kind](rows)))
            except (ValueError, TypeError, RecursionError):  # such a value cannot stand in such a file
                source = rows
        layout = draw.choice((None, None, None, None, draw.choice(sorted(LAYOUTS))))
        asked = draw.random() < (0.5 if "label" in name or name == "kto" else 0.02)
        positive = draw.choice(("1", "True", "joy", "\ud83d")) if asked else None
        outcome, fault = _outcome(source, layout, positive, skip=draw.random() < 0.5)
        counts[outcome] += 1
        if fault:
            faults.append(f"seed {seed}, mutant {number}: {name} as {kind}, layout {layout}: {fault}")
    return counts, faults


def _outcome(source: Any, layout: str | None, positive: str | None, *, skip: bool) -> tuple[str, str]:
    try:
        loaded = load_examples(source, layout=layout, positive_label=positive, skip_bad_rows=skip)
    except (DataError, UsageError) as error:
        return "refused", _unsayable([str(error)])
    except Exception:  # noqa: BLE001  # what is looked for
        return "traceback", traceback.format_exc(limit=-3)
    texts = [text for e in loaded.examples for text in (e.question, *e.options)]
    return "read", _unsayable(loaded.skipped) or ("" if _writable(texts) else "a text that cannot be written")


def _unsayable(messages: list[str] | tuple[str, ...]) -> str:
    long = [f"{len(message)} characters: {message[:200]!r}" for message in messages if len(message) > LONGEST]
    return "; ".join(long[:1]) or ("" if _writable(messages) else f"cannot be printed: {messages[0]!r}")


def _writable(texts: Any) -> bool:
    try:
        "".join(texts).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description="fuzz the reading of data")
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts, faults = run(given.mutants, given.seed, Path(folder))
    sys.stdout.write("\n".join([*faults[:20], f"{given.mutants} mutants: {dict(counts)}, {len(faults)} faults"]) + "\n")
    return int(bool(faults))


if __name__ == "__main__":
    raise SystemExit(main())
