"""Makes the embedded samples from the project's shared data; the same input gives the same bytes.

    python tools/samples/build.py --data ../shared/data

The licence and attribution files beside the samples are written by hand and stay as they are.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import re
from collections.abc import Iterable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

from sums import sums, thoughts

from tillerman.data.samples import SAMPLES, WAYS_OF_WRITING
from tillerman.data.splits import hash_fraction, split_of

OUT = Path(__file__).parents[2] / "src/tillerman/data/samples"
MMLU_SUBJECTS = (
    "astronomy",
    "computer_security",
    "global_facts",
    "high_school_biology",
    "high_school_geography",
    "high_school_psychology",
    "management",
    "marketing",
    "nutrition",
    "world_religions",
)
WIKITEXT_CHARACTERS = 40_000


def read(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")


def write(name: str, text: str) -> None:
    path = OUT / SAMPLES[name].file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(text.encode("utf-8"), 9, mtime=0))
    print(f"{path.relative_to(OUT)}: {path.stat().st_size:,} bytes")


def lines(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def by_hash(rows: Iterable[tuple[str, dict[str, Any]]], count: int) -> list[dict[str, Any]]:
    """The rows whose text has the smallest hash under a seed of its own: a sample fair to every split."""
    unique = dict(reversed(list(rows)))
    return [unique[text] for text in sorted(unique, key=lambda text: hash_fraction(text, seed=1))[:count]]


def personas(data: Path) -> None:
    for sample in SAMPLES.values():
        if sample.file.startswith("anthropic_evals/"):
            write(sample.name, read(data / f"anthropic_evals/persona/{sample.name}.jsonl.gz"))


def bbq(data: Path, condition: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows as short as those the embedded model was trained on, without the fields that nobody reads."""
    for line in read(data / "bbq/original/Age.jsonl.gz").splitlines():
        row = json.loads(line)
        text = f"{row['context']}\n{row['question']}"
        names = ("example_id", "question_polarity", "context_condition", "category", "context", "question")
        if len(text) <= 330 and row["context_condition"] == condition:
            yield text, {name: row[name] for name in (*names, "ans0", "ans1", "ans2", "label")}


def commonsense(data: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in csv.DictReader(StringIO(read(data / "ethics/commonsense/cm_test.csv.gz"))):
        if row["is_short"] == "True":
            yield row["input"], {"label": int(row["label"]), "input": row["input"], "is_short": True}


def deontology(data: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in ("deontology_train.csv.gz", "deontology_test.csv"):
        for row in csv.DictReader(StringIO(read(data / "ethics/deontology" / file))):
            text = f"{row['scenario']} {row['excuse']}"
            yield text, {"label": int(row["label"]), "scenario": row["scenario"], "excuse": row["excuse"]}


def mmlu(data: Path) -> Iterator[dict[str, Any]]:
    """The same number of short questions of every subject."""
    for subject in MMLU_SUBJECTS:
        table = csv.DictReader(StringIO(read(data / f"mmlu/test/{subject}_test.csv")))
        options = [f"choice{i}" for i in range(4)]
        short = (
            (row["question"], {**row, "answer": int(row["answer"]), "subject": subject})
            for row in table
            if len(row["question"]) + sum(len(row[name]) for name in options) <= 240
            and len({row[name].casefold() for name in options}) == 4
        )
        yield from by_hash(short, 200 // len(MMLU_SUBJECTS))


def ways_of_writing() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The table beside this file, one sample for each column after question and plain answer."""
    with (Path(__file__).parent / "ways_of_writing.tsv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file, delimiter="\t"))
    for way in WAYS_OF_WRITING:
        yield way, [{"prompt": row["prompt"], "chosen": row[way], "rejected": row["plain"]} for row in table]


def stories(data: Path) -> list[str]:
    """Stories of the test share, cleaned as ``tools/pilot/corpus.py`` does: the embedded model never saw them."""
    found: list[str] = json.loads(read(data / "lm_text/tinystories_1000.json"))
    for file in ("tinystories_llmatoz_248k.txt", "tinystories_minigpt_197k.txt"):
        found += re.split(r"<\|endoftext\|>|\n{3,}", read(data / "lm_text" / file))
    unique = dict.fromkeys(story.strip() for story in found)
    unseen = [s for s in unique if 200 < len(s) < 4000 and split_of(s) == "test"]
    chosen = sorted(unseen, key=lambda story: hash_fraction(story, seed=1))[: SAMPLES["tinystories"].items]
    return [story.replace("\n\n", "\n") for story in chosen]


def wikitext(data: Path) -> list[str]:
    """Whole paragraphs with few words cut out of the vocabulary, about 40,000 characters."""
    paragraphs = [line.strip() for line in read(data / "lm_text/wikitext2_test.txt").splitlines()]
    good = [p for p in paragraphs if 400 < len(p) < 1500 and not p.startswith("=") and p.count("<unk>") <= 1]
    chosen: list[str] = []
    for paragraph in sorted(good, key=lambda p: hash_fraction(p, seed=1)):
        if sum(map(len, chosen)) < WIKITEXT_CHARACTERS:
            chosen.append(paragraph)
    return chosen


def xstest(data: Path) -> None:
    """The prompts alone: no reply to them ships."""
    rows = csv.DictReader(StringIO(read(data / "safety/xstest/xstest_prompts.csv")))
    kept = lines({name: row[name] for name in ("id", "type", "label", "prompt")} for row in rows)
    path = OUT.parent / "safety/xstest.jsonl.gz"
    path.write_bytes(gzip.compress(kept.encode("utf-8"), 9, mtime=0))
    print(f"{path.relative_to(OUT.parent)}: {path.stat().st_size:,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the shared data folder")
    data = parser.parse_args().data
    personas(data)
    half = SAMPLES["bbq-age"].items // 2
    # Half of each kind, so that "can't be determined" is right for half the items, not for most.
    write("bbq-age", lines(row for kind in ("ambig", "disambig") for row in by_hash(bbq(data, kind), half)))
    write("ethics-commonsense", lines(by_hash(commonsense(data), SAMPLES["ethics-commonsense"].items)))
    write("ethics-deontology", lines(by_hash(deontology(data), SAMPLES["ethics-deontology"].items)))
    write("mmlu", lines(mmlu(data)))
    write("sums", lines(sums(SAMPLES["sums"].items)))
    write("thoughts", lines(thoughts(SAMPLES["thoughts"].items)))
    for way, rows in ways_of_writing():
        write(way, lines(rows))
    write("tinystories", json.dumps(stories(data), ensure_ascii=False))
    write("wikitext", json.dumps(wikitext(data), ensure_ascii=False))
    xstest(data)


if __name__ == "__main__":
    main()
