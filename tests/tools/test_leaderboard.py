"""The leaderboard says what the logs say: nothing is filled in, every test counts, and any method becomes a row."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tillerman.logs.comparison import Comparison, ComparisonLog, Cost, MethodLeftOut, MethodResult
from tillerman.logs.evaluation import Condition, EvaluationLog
from tillerman.statistics.values import Effect, Interval, Rate

from ..reports.example_log import example_log

TOOLS = Path(__file__).parents[2] / "tools"
NAMES = ("page", "boards", "measured", "behaviours", "standing", "pages")  # of other tools too


@pytest.fixture(scope="module", autouse=True)
def tools():
    kept = {name: sys.modules.pop(name) for name in NAMES if name in sys.modules}
    before = list(sys.path)
    sys.path[:0] = [str(TOOLS / "leaderboard"), str(TOOLS / "real_models"), str(TOOLS)]
    yield
    sys.path[:] = before
    for name in NAMES:
        sys.modules.pop(name, None)
    sys.modules.update(kept)


def module(name: str):
    return importlib.import_module(name)


def effect(value: float, p: float = 0.5, half: float = 0.05) -> Effect:
    return Effect(value, Interval(value - half, value + half), p, 40, value)


def log_of(value: float, p: float = 0.5, *, prompt: float = 0.1, strength: float = 1.0) -> EvaluationLog:
    rate = Rate(0.5, Interval(0.4, 0.6), 40, 0.5)
    conditions = (
        Condition("unsteered", rate, None),
        Condition("steered", rate, effect(value, p)),
        Condition("prompt", rate, effect(prompt, 0.3)),
    )
    return replace(example_log(), strength=strength, conditions=conditions, written=None)


def measured(name: str, method: str, log: EvaluationLog | None):
    return module("measured").Measured("smollm2", name, method, 20.0, log, "" if log else "it needs labels")


def personas() -> list[str]:
    return [name for name, b in module("behaviours").BEHAVIOURS.items() if b.kind == "answered"]


def board(many):
    (found,) = module("boards").real_boards(many, "smollm2", "Small")
    return found


def line(found, name: str) -> tuple[str, ...]:
    return next(row for row in module("page").table(found).rows if row[0] == name)


@pytest.mark.slow
def test_the_page_is_up_to_date() -> None:
    for path, made in module("page").made().items():
        assert path.read_text(encoding="utf-8") == made, "stale: python tools/leaderboard/page.py"


def test_an_abstaining_method_counts_as_no_effect_and_a_refused_or_missing_behaviour_as_nothing() -> None:
    names = personas()
    many = [measured(name, "new-method", log_of(0.3)) for name in names[:3]]
    many += [measured(names[3], "new-method", log_of(0.9, strength=0.0)), measured(names[4], "new-method", None)]
    found = board(many)
    row = line(found, "new-method")  # a method that nobody told the page of
    assert row[1] == "4 of 6, abstains on 1, refused on 1"
    assert row[2].startswith("+22.5 (no interval)")  # (0.3 * 3 + 0) / 4
    assert row[5].startswith("+12.5")  # minus the prompt of the same items, the abstained one too
    assert line(found, "LoRA")[1] == "not run"


def test_what_fine_tuning_does_is_held_against_methods_whose_logs_do_not_have_it() -> None:
    names = personas()
    tuned = Condition("lora", Rate(0.5, Interval(0.4, 0.6), 40, 0.5), effect(0.4, 0.001))
    first = [log_of(0.1 + k / 100) for k in range(len(names))]
    many = [measured(name, "a-first", log_of(0.2, prompt=0.25)) for name in names[:3]]
    many += [
        measured(name, "caa", replace(log, conditions=(*log.conditions, tuned)))
        for name, log in zip(names, first, strict=True)
    ]
    many += [measured(name, "sta", log_of(0.2, prompt=0.15)) for name in names]
    many += [measured(name, "defaults", log_of(0.2)) for name in names]  # on prompts of its own
    found = board(many)
    assert line(found, "LoRA")[1:3] == ("6 of 6", "+40.0 (+40.0 to +40.0)")
    assert line(found, "sta")[5:8:2] == ("+5.0 (+5.0 to +5.0)", "\u221220.0 (\u221220.0 to \u221220.0)")
    assert line(found, "prompt")[2].startswith("+10.0 (")  # of the runs of caa
    assert line(found, "prompt")[7].startswith("\u221230.0 (")
    assert line(found, "defaults")[7] == "–" and line(found, "LoRA")[7] == "–"
    assert "LoRA (+40.0 (+40.0 to +40.0)) does more than the best method, `sta`" in module("page").clause(found)


def test_a_method_that_refused_everything_says_so() -> None:
    many = [measured(name, "caa", log_of(0.3)) for name in personas()]
    many += [measured(name, "sta", None) for name in personas()[:2]]
    assert line(board(many), "sta")[1:3] == ("refused on 2", "–")


def test_every_test_of_a_table_counts_in_the_correction() -> None:
    names = personas()
    alone = board([measured(names[0], "caa", log_of(0.3, 0.02))])
    assert alone.tests == 2 and line(alone, "caa")[4] == "1 of 1"  # with the prompt's
    many = [measured(names[0], "caa", log_of(0.3, 0.02))]
    many += [measured(name, "pas-full", log_of(0.0, strength=0.0)) for name in names]
    crowded = board(many)
    assert line(crowded, "caa")[4] == "0 of 1"  # beside six that abstain
    firm = board([measured(names[0], "caa", log_of(-0.3, 0.0001))])
    assert line(firm, "caa")[4] == "0 of 1"  # harm is no win


def test_the_first_sentences_compare_only_what_ran_on_every_behaviour() -> None:
    names = personas()
    page = module("page")
    few = [measured(name, "lucky", log_of(0.9)) for name in names[:2]]
    many = [measured(name, "caa", log_of(0.3 + 0.01 * k, prompt=0.1)) for k, name in enumerate(names)]
    said = page.clause(board([*few, *many]))
    assert "`caa`" in said and "does more than the best baseline, prompt" in said and "lucky" not in said
    behind = page.clause(
        board([measured(name, "caa", log_of(0.1, prompt=0.3 + k / 50)) for k, name in enumerate(names)])
    )
    assert "prompt" in behind and "does more than the best method, `caa`" in behind
    level = page.clause(board([measured(n, "caa", log_of(0.3, prompt=0.2 + (k % 2) / 5)) for k, n in enumerate(names)]))
    assert "are not told apart" in level
    nothing = page.clause(
        board([measured(n, "caa", log_of((-1) ** k / 9, prompt=(-1) ** k / 8)) for k, n in enumerate(names)])
    )
    assert "neither the best baseline, prompt" in nothing
    assert "no method and no baseline ran on all" in page.clause(board(few))


def compared(method: str, value: float) -> MethodResult:
    rate, cost = Rate(0.5, Interval(0.4, 0.6), 40, 0.5), Cost(3.0, 5032, 1.1, Interval(1.0, 1.2))
    null = Condition("null:random", rate, effect(0.0))
    nulls, side = (null,), example_log().side_effects
    return MethodResult(method, method, "", 1.0, 0.1, "all", 4, rate, effect(value), 0.5, nulls, side, cost)


def test_a_comparison_has_bytes_and_what_could_not_be_fitted() -> None:
    baselines = (Condition("prompt", Rate(0.5, Interval(0.4, 0.6), 40, 0.5), effect(0.2)),)
    part = Comparison("a", "pilot", 0, 9, 9, 40, "", baselines, (), (), 0.05, {}, 1.0)
    parts = (
        replace(part, methods=(compared("caa", 0.5),), left_out=(MethodLeftOut("sta", "no autoencoder"),)),
        replace(part, data_name="b", methods=(compared("caa", 0.3), compared("sta", 0.1))),
    )
    found = module("boards").compared_board(ComparisonLog(parts), "pilot")
    row = line(found, "caa")
    assert (row[1], row[2], row[4], row[-1]) == ("2 of 2", "+40.0 (no interval)", "2 of 2", "5,032")
    assert line(found, "sta")[1] == "1 of 2, refused on 1"


def test_refusals_are_shown_of_the_runs_that_asked_and_the_prompts_beside() -> None:
    refusals = module("measured").Refusals
    names = personas()
    many = [measured(name, "caa", log_of(0.3)) for name in names]
    many[0] = replace(many[0], size=5000, unsafe=refusals(40, 0.1, 0.3, 0.1, 0.15), safe=refusals(40, 0.0, 0.1, 0, 0))
    many[1] = replace(many[1], size=5200, unsafe=refusals(40, 0.1, 0.0, 0.1, 0.05), safe=refusals(40, 0.0, 0.0, 0, 0))
    again = [module("measured").Measured.from_json(one.to_json()) for one in many]
    table = module("page").table(board(again))
    column = table.head.index("refused: unsafe, safe, pp")
    assert line(board(again), "caa")[column] == "+5.0, +5.0 (2)"  # (+20 - 10) / 2
    assert line(board(again), "prompt")[column] == "0.0, 0.0 (2)"
    assert line(board(again), "few-shot")[-1] == "–" and line(board(again), "caa")[-1] == "5,100"
