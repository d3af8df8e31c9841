"""Measure what ``make`` can and cannot on a small model: descriptions -> data -> fit, with held-out effect and nulls.

    python tools/making/measure.py OUT --model smollm2=FOLDER [--minutes 60] [--only pirate,french]

OUT gets one file for each description, first the data of all, then the fits; what lies there is not measured again, so
that an interrupted run goes on. ``python tools/making/page.py --add OUT`` takes the files into the repository.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "real_models"))

from behaviours import WRITTEN
from cases import CASES, Case
from measured import Measured, write

import tillerman
from tillerman.core.errors import TillermanError
from tillerman.core.files import write_text
from tillerman.core.row_files import write_rows
from tillerman.core.store import Store
from tillerman.data.writing import make_writer
from tillerman.models.opened import OpenModel
from tillerman.pipeline.flow import fit, run_key
from tillerman.pipeline.making.authors import ModelAuthor
from tillerman.pipeline.making.make import make

METHOD = "cold-kernel"
# As docs/real-models.md has it, but smaller: a run takes a minute or two of one thread.
SETTINGS = replace(
    WRITTEN,
    method=METHOD,
    together="only",
    doses=(0.3,),
    read="mean",
    max_validation=6,
    max_test=12,
    written_prompts=12,
    written_tokens=24,
    neutral_tokens=256,
    unrelated_items=4,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", required=True, metavar="NAME=MODEL")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--minutes", type=float, help="begin nothing after so many minutes")
    parser.add_argument("--only", default=",".join(CASES))
    given = parser.parse_args()
    torch.set_num_threads(1)
    name, _, source = given.model.partition("=")
    opened = tillerman.open_model(source, dtype=getattr(torch, given.dtype))
    given.out.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + 60 * (given.minutes or float("inf"))
    cases = [CASES[one] for one in given.only.split(",")]
    for step in (data_of, fit_of):
        for case in cases:
            if time.monotonic() > ends:
                sys.exit("the time is over; the same command goes on from here")
            step(name, opened, case, given.out)


def data_of(name: str, opened: OpenModel, case: Case, out: Path) -> None:
    """The rows as a file, and the log beside them."""
    about = out / f"{name}.{case.name}.making.json"
    if about.exists():
        return
    store = Store(out / f"{name}.{case.name}.partial", f"{name} {case.name}")
    author = ModelAuthor(opened, make_writer(opened.tokenizer), store)
    began = time.process_time()
    made = make(case.making, author, author)
    took = time.process_time() - began
    log: dict[str, Any] = {**made.log.to_json(), "answered_by": name, "writer": name if made.log.writer else ""}
    write_rows(out / f"{name}.{case.name}.jsonl", made.rows)
    write_text(about, json.dumps({"case": case.name, "model": name, "cpu_seconds": took, "log": log}))
    store.close(finished=True)
    print(f"{case.name}: {took:.0f} CPU s, {made.log.kept} of {made.log.written} kept{made.log.refused}", flush=True)


def fit_of(name: str, opened: OpenModel, case: Case, out: Path) -> None:
    """Fitted at many layers together, replies searched by, as in ``docs/real-models.md``."""
    done = out / f"{name}.{case.name}.fit.json"
    rows = out / f"{name}.{case.name}.jsonl"
    if done.exists() or not rows.read_text(encoding="utf-8").strip():
        return
    asked = replace(SETTINGS, prompt=case.prompt)
    data = tillerman.load_examples(rows)
    store = Store(out / f"{name}.{case.name}.kept", run_key(asked, (0,), opened, data))
    began, refused, log = time.process_time(), "", None
    try:
        log = fit(asked, opened, data, store=store).log
    except TillermanError as error:
        refused = str(error)
    store.close(finished=True)
    one = Measured(name, case.name, "fit", time.process_time() - began, log, refused)
    write(out, one)
    print(f"{case.name}: fitted, {one.cpu_seconds:.0f} CPU s{one.refused and ', refused: ' + one.refused}", flush=True)


if __name__ == "__main__":
    main()
