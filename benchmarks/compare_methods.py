"""The published comparison: every registered method on nine data sets with the pilot, beside prompt and few-shot.

    python benchmarks/compare_methods.py --out comparison --data ../shared/data

Six persona behaviours come with the package (three that the pilot was trained on, three it never saw). Two BBQ
categories and the answers of one party's voters in OpinionsQA are read from DATA, and left out with a word where
they are missing. A data set that is finished lies in OUT and is not run again; an interrupted one goes on where it
stopped. OUT/results.md holds all tables, OUT/results.json the log.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import tillerman
from tillerman.cli.commands.compare import write_comparison
from tillerman.core.files import write_text
from tillerman.core.spec import split_specs
from tillerman.data.loading import LoadedData
from tillerman.logs.comparison import Comparison
from tillerman.methods.registry import METHODS
from tillerman.methods.sae.base import SaeMethod
from tillerman.models.opened import OpenModel
from tillerman.pipeline.compare import compare_key
from tillerman.reports.comparison import to_markdown

PERSONAS = (
    "interest-in-science",
    "conscientiousness",
    "risk-seeking",
    "interest-in-literature",
    "low-discount-rate",
    "desire-to-persuade-people-to-be-more-helpful-to-others",
)
BBQ = ("Age", "Nationality")
OPINIONS, ATTRIBUTE, GROUP = "opinions_qa", "POLPARTY", "Democrat"
EXPERIMENT = tillerman.Experiment(
    method="caa",
    layers=(2, 3, 4, 5),
    max_train=300,
    max_validation=100,
    neutral="sample:tinystories",
    neutral_tokens=2048,
    unrelated_items=60,
)


def data_sets(folder: Path | None, limit: int | None) -> Iterator[LoadedData]:
    for name in PERSONAS:
        yield tillerman.load_examples(f"sample:{name}", limit=limit)
    for category in BBQ:
        path = (folder or Path()) / "bbq" / "original" / f"{category}.jsonl.gz"
        if folder is not None and path.is_file():
            yield replace(tillerman.load_examples(path, limit=limit or 1000), name=f"bbq-{category.lower()}")
        else:
            note(f"BBQ {category} left out: no {path}")
    rows = [] if folder is None else list(opinions(folder / OPINIONS))
    if rows:
        name = f"{OPINIONS}-{GROUP.lower()}"
        yield replace(tillerman.load_examples(rows, limit=limit), name=name, described=(f"You are a {GROUP}.",))
    else:
        note(f"OpinionsQA left out: no American_Trends_Panel_*/{ATTRIBUTE}_data.json in {OPINIONS}")


def opinions(folder: Path) -> Iterator[dict[str, object]]:
    """Questions with the answer that most of the group gave for the right one; "Refused" is no answer."""
    for file in sorted(folder.glob(f"American_Trends_Panel_*/{ATTRIBUTE}_data.json")):
        for entry in json.loads(file.read_text(encoding="utf-8")).values():
            options = [option for option in entry["MC_options"] if option != "Refused"]
            counts = [float(entry.get(GROUP, {}).get(option, 0)) for option in options]
            if 2 <= len(set(options)) == len(options) <= 5 and sum(counts) > 0:
                most = counts.index(max(counts))
                yield {"question": entry["question_text"], "options": options, "answer": most}


def lineup_of(names: list[str], equal_kl: float) -> tillerman.Lineup:
    """All that can be asked for without more being said; the others are named."""
    kept = []
    for name in names:
        asked = f"{name}:sae=pilot" if name in METHODS and issubclass(METHODS[name], SaeMethod) else name
        try:
            replace(EXPERIMENT, method=asked)
            kept.append(asked)
        except tillerman.UsageError as error:
            note(f"{name} left out: {error}")
    return tillerman.Lineup(tuple(kept), EXPERIMENT, equal_kl)


def finished(path: Path, lineup: tillerman.Lineup, opened: OpenModel, data: LoadedData) -> Comparison | None:
    """What was written for the same methods, options, model and data; anything else is run anew."""
    if not path.is_file():
        return None
    (made,) = tillerman.ComparisonLog.from_json(json.loads(path.read_text(encoding="utf-8"))).comparisons
    asked = [json.loads(json.dumps(lineup.experiment.to_json())), opened.fingerprint, data.digest, lineup.equal_kl]
    told = made.provenance
    same = asked == [told["options"], told["model_fingerprint"], told["data_digest"], made.equal_kl]
    return made if same else None


def run(lineup: tillerman.Lineup, opened: OpenModel, data: LoadedData, out: Path) -> Comparison:
    folder = out / data.name
    done = finished(folder / "compare.json", lineup, opened, data)
    if done is not None:
        note(f"{data.name}: finished before")
        return done
    folder.mkdir(exist_ok=True)
    store = tillerman.Store(folder / "partial", compare_key(lineup, opened, data))
    started = time.monotonic()
    complete = False
    try:
        made = tillerman.compare(lineup, opened, data, store=store, watch=tillerman.ProgressBar())
        write_comparison(tillerman.ComparisonLog((made,)), folder)
        complete = True
    finally:
        store.close(finished=complete)
    note(f"{data.name}: {len(made.methods)} methods, {time.monotonic() - started:.0f} s")
    return made


def note(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder with bbq/ and opinions_qa/")
    parser.add_argument("--model", default="pilot")
    parser.add_argument("--methods", help="comma-separated; every registered one if not given")
    parser.add_argument("--only", help="comma-separated names of data sets")
    parser.add_argument("--limit", type=int, help="at most this many items of each data set")
    parser.add_argument("--equal-kl", type=float, default=0.05)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    opened = tillerman.open_model(args.model)
    lineup = lineup_of(split_specs(args.methods) if args.methods else list(METHODS), args.equal_kl)
    made: list[Comparison] = []
    for data in data_sets(args.data, args.limit):
        if args.only is None or data.name in args.only.split(","):
            made.append(run(lineup, opened, data, args.out))
            log = tillerman.ComparisonLog(tuple(made))
            write_text(args.out / "results.json", json.dumps(log.to_json()))
            write_text(args.out / "results.md", to_markdown(log))


if __name__ == "__main__":
    main()
