"""The page of ``make`` says what the committed log says, what was refused, and what was not run."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ..reports.examples import making_log
from .test_real_models_page import log_of

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(scope="module", autouse=True)
def tools():
    places = [str(TOOLS / "making"), str(TOOLS / "real_models")]
    sys.path[:0] = places
    yield
    for place in places:
        sys.path.remove(place)


def module(name: str):
    return importlib.import_module(name)


def tried(case: str = "pirate", *, fitted: bool = True, refused: str = ""):
    fit = module("measured").Measured("smollm2", case, "fit", 61.4, log_of(0.5, 0.2)) if fitted else None
    row = {"prompt": "Who?", "chosen": "Arr | me!", "rejected": "He."}
    log = replace(making_log(), refused=refused, kept=0 if refused else 9)
    return module("tried").Tried(case, "smollm2", 41.6, log, () if refused else (row,), fit)


def test_each_description_says_what_came_of_it() -> None:
    made = module("words").chapter([tried(), tried("sad", fitted=False, refused="cannot be told apart")])
    assert "| speaks like a pirate | the description | 12 | 9 | 0.90 (0.80 to 0.95) | too short (3) | 42 |" in made
    assert "| the description | 12 | 0.10 (0.00 to 0.20) | 0.60 (0.50 to 0.70) | +0.50 (+0.40 to +0.60) |" in made
    assert "10, 60, 30" in made and "| is sad and complains all the time | the description | 12 | refused |" in made
    assert "| answers in French | the description | not run |" in made
    assert "| is sad and complains all the time | the description | not fitted |" in made
    assert "| Who? | wanted | Arr \\| me! |" in made and "| question 0 | steered | steered says 0 |" in made


def test_a_fit_that_was_refused_says_why_and_nothing_more() -> None:
    why = "`objective` written: the labels give no scorer of replies: too few items; use `objective` scored"
    one = replace(tried(), fit=module("measured").Measured("smollm2", "pirate", "fit", 3.4, None, why))
    assert "| the description | refused: too few items |" in module("words").chapter([one])


def test_what_measure_wrote_is_read_and_packed_the_same_again(tmp_path: Path) -> None:
    one, kept = tried(), module("tried")
    values = {"case": one.case, "model": one.model, "cpu_seconds": one.cpu_seconds, "log": one.log.to_json()}
    (tmp_path / "smollm2.pirate.making.json").write_text(json.dumps(values))
    (tmp_path / "smollm2.pirate.jsonl").write_text("\n".join([json.dumps(one.rows[0])] * 5))
    (unfitted,) = kept.read(tmp_path)
    assert unfitted.fit is None and len(unfitted.rows) == 3
    module("measured").write(tmp_path, one.fit)
    (read,) = kept.read(tmp_path)
    kept.pack(tmp_path / "log.gz", [read])
    first = (tmp_path / "log.gz").read_bytes()
    kept.pack(tmp_path / "log.gz", kept.unpack(tmp_path / "log.gz"))
    assert (tmp_path / "log.gz").read_bytes() == first
    assert module("words").chapter([read]) == module("words").chapter(kept.unpack(tmp_path / "log.gz"))


def test_the_page_is_up_to_date() -> None:
    page = module("words"), importlib.util.spec_from_file_location("making_page", TOOLS / "making" / "page.py")
    tool = importlib.util.module_from_spec(page[1])
    page[1].loader.exec_module(tool)
    (made,) = tool.made().values()
    assert made == tool.PAGE.read_text(encoding="utf-8"), "stale: python tools/making/page.py"


def test_a_case_says_what_is_made_and_what_it_is_held_against() -> None:
    for case in module("cases").CASES.values():
        making = case.making
        assert making.description == case.description and bool(making.pairs) == bool(case.words)
        assert case.prompt and making.prompt_in == "user"
