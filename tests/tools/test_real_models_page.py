"""The page of real models says what the committed logs say, what was not run, and where a prompt does better."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.evidence import WrittenCondition, WrittenReplies, WrittenScorer
from tillerman.statistics.values import Interval, MeanEffect, ScoreMean

from ..reports.example_log import example_log

TOOLS = Path(__file__).parents[2] / "tools" / "real_models"


@pytest.fixture(scope="module", autouse=True)
def tools():
    sys.path.insert(0, str(TOOLS))
    yield
    sys.path.remove(str(TOOLS))


def module(name: str):
    return importlib.import_module(name)


def said(name: str, score: float, change: float | None, lead: float | None = None, again: float = 0.0):
    def moved(value: float | None) -> MeanEffect | None:
        return None if value is None else MeanEffect(value, Interval(value - 0.1, value + 0.1), 0.01, 12)

    mean = ScoreMean(score, Interval(score - 0.1, score + 0.1), 12, 0)
    replies = tuple(f"{name} says {k}" for k in range(12))
    return WrittenCondition(name, mean, moved(change), 3.0, again, replies, mean, moved(lead))


def log_of(steered: float, prompt: float, random: float = 0.0, again: float = 0.0) -> EvaluationLog:
    conditions = (
        said("unsteered", 0.1, None),
        said("steered", 0.1 + steered, steered, again=again),
        said("prompt", 0.1 + prompt, prompt, steered - prompt),
        said("null:random", 0.1 + random, random),
    )
    prompts = tuple(f"question {k}" for k in range(12))
    written = WrittenReplies(WrittenScorer("labels", 1.0, Interval(0.9, 1.0), 12), conditions, prompts, 32)
    return replace(example_log(), written=written)


def measured(name: str, method: str, log: EvaluationLog | None, refused: str = ""):
    return module("measured").Measured("smollm2", name, method, 61.4, log, refused)


@pytest.mark.parametrize(
    ("steered", "prompt", "random", "again", "stands"),
    [
        (0.5, 0.2, 0.0, 0.0, "VECTOR"),
        (0.4, 0.4, 0.0, 0.0, "BOTH"),
        (0.2, 0.6, 0.0, 0.0, "PROMPT"),
        (0.5, 0.2, 0.3, 0.0, "PROMPT_ALONE"),  # random directions do it as well
        (0.5, 0.2, 0.0, 0.5, "PROMPT_ALONE"),  # loops
        (0.05, 0.05, 0.0, 0.0, "NOTHING"),
    ],
)
def test_a_behaviour_stands_where_vector_prompt_and_controls_put_it(steered, prompt, random, again, stands) -> None:
    one = measured("pirate", "caa", log_of(steered, prompt, random, again))
    place, best = module("standing").standing([one])
    assert place.name == stands and (best is one) == (stands in ("VECTOR", "BOTH", "PROMPT"))


def test_exemplars_that_do_more_count_as_a_prompt_does() -> None:
    log = log_of(0.5, 0.2)
    shown = replace(log.written, conditions=(*log.written.conditions, said("icl", 0.9, 0.8, -0.3)))
    assert module("standing").standing([measured("pirate", "caa", replace(log, written=shown))])[0].name == "PROMPT"
    weak = replace(log_of(0.05, 0.05), written=replace(shown, conditions=shown.conditions[:1] + shown.conditions[-1:]))
    assert module("standing").standing([measured("pirate", "caa", weak)])[0].name == "PROMPT_ALONE"


def test_the_vector_that_changes_most_is_named() -> None:
    weak, strong = measured("pirate", "caa", log_of(0.2, 0.6)), measured("pirate", "cold-kernel", log_of(0.4, 0.6))
    refused = measured("pirate", "cold-fd", None, "it needs labels")
    assert module("standing").standing([refused, weak, strong])[1] is strong
    assert module("standing").standing([refused]) is None


def test_what_was_not_run_says_so_and_what_was_refused_says_why() -> None:
    many = [measured("pirate", "caa", log_of(0.5, 0.2)), measured("pirate", "cold-fd", None, "it needs labels")]
    made = module("chapters").chapters([*many, measured("gloomy", "cold-fd", log_of(0.1, 0.2))])
    assert made["gemma3"] == "Not run.\n"
    lines = made["smollm2"].splitlines()
    row = next(line for line in lines if line.startswith("| pirate | caa | 12 |"))
    assert "0.60 (0.50 to 0.70)" in row and "10, 60, 30, none" in row
    assert "| gloomy | cold-fd | 12 |" in made["smollm2"]
    alone = module("chapters").chapters([measured("pirate", "caa", log_of(0.5, 0.2)), measured("gloomy", "sta", None)])
    assert "| gloomy | refused |" in alone["smollm2"]
    methods = next(line for line in lines if line.startswith("| pirate | +0.50"))
    assert "works" in methods and "refused" in methods
    assert "Methods not run: prompt-vector" in made["smollm2"] and "Yes/no personas: not run." in made["smollm2"]
    assert "pirate, `cold-fd`: refused. it needs labels" in made["smollm2"]
    assert "a vector does more than the prompt and exemplars: pirate (caa)" in made["in short"]
    assert "not run: cheerful" in made["in short"]


def test_validation_items_take_the_method_whatever_the_test_says() -> None:
    weak, strong = log_of(0.1, 0.2), log_of(0.5, 0.2)
    chosen = strong.chosen
    assert chosen is not None
    better = replace(weak, cells=tuple(replace(c, written=0.9) if c == chosen else c for c in weak.cells))
    worse = replace(strong, cells=tuple(replace(c, written=0.2) if c == chosen else c for c in strong.cells))
    found = [measured("pirate", "sta", None), measured("pirate", "caa", worse), measured("pirate", "cold-fd", better)]
    assert module("standing").by_validation(found) is found[2]
    assert module("standing").by_validation(found[:1]) is None


def test_the_chosen_cell_is_known_by_the_name_that_the_page_gives_the_method() -> None:
    log = log_of(0.5, 0.2)
    packed = module("measured").small(measured("pirate", "caa together", log))
    assert packed.log.method == "caa together" and packed.log.chosen is not None
    assert packed.log.chosen.strength == log.chosen.strength


def test_in_short_counts_where_half_of_the_replies_show_it() -> None:
    many = [measured("pirate", "caa", log_of(0.5, 0.2)), measured("gloomy", "caa", log_of(0.3, 0.45))]
    made = module("chapters").chapters(many)["in short"]
    assert "of 2 ways of writing measured, half of the replies or more show: steered pirate; " in made
    assert "under the prompt gloomy; after exemplars none" in made


def test_what_fine_tuning_does_has_a_table_of_its_own_once_a_log_holds_it() -> None:
    log = log_of(0.5, 0.2)
    assert log.written is not None
    tuned = replace(log.written, conditions=(*log.written.conditions, said("lora", 0.9, 0.8, -0.3)))
    many = [measured("pirate", "caa", replace(log, written=tuned)), measured("pirate", "sta", log)]
    made = module("chapters").chapters([*many, measured("gloomy", "caa", log)])
    assert (
        "| pirate | 12 | 0.10 (0.00 to 0.20) | 0.90 (0.80 to 1.00) | +0.80 (+0.70 to +0.90) | 10, 90 |"
        in (made["smollm2"])
    )
    assert "| gloomy | 12 |" not in made["smollm2"] and "; after fine-tuning pirate" in made["in short"]
    first = module("first").first_table(many)  # of the log that holds it, whatever method the row is about
    assert "| 0.30 |  | 0.90 | 0.10 | 60, 30, none, 90 | " in first
    without = module("chapters").chapters([measured("gloomy", "caa", log)])
    assert "fine-tuned" not in without["smollm2"] and "fine-tuning" not in without["in short"]


def test_texts_stand_side_by_side_for_two_prompts() -> None:
    made = module("chapters").chapters([measured("pirate", "caa", log_of(0.5, 0.2))])["smollm2"]
    assert "| question 0 | unsteered | unsteered says 0 |" in made
    assert "| question 1 | steered, caa | steered says 1 |" in made
    assert "question 2" not in made


def test_committed_files_keep_what_the_page_shows_and_no_items(tmp_path: Path) -> None:
    kept, one = module("measured"), measured("pirate", "caa", log_of(0.5, 0.2))
    kept.pack(tmp_path / "smollm2.json.gz", [one, measured("gloomy", "caa", None, "no scorer")])
    first = (tmp_path / "smollm2.json.gz").read_bytes()
    again = kept.unpack(tmp_path / "smollm2.json.gz")
    assert [x.behaviour for x in again] == ["gloomy", "pirate"] and again[0].refused == "no scorer"
    log = again[1].log
    assert log.items == () and len(log.written.prompts) == 3 and len(log.written.conditions[0].replies) == 3
    assert (log.model_id, log.effect) == ("smollm2", one.log.effect)
    assert "| question 1 | prompted | prompt says 1 |" in module("chapters").chapters(again)["smollm2"]
    kept.pack(tmp_path / "smollm2.json.gz", again)
    assert (tmp_path / "smollm2.json.gz").read_bytes() == first


def test_a_measurement_that_lies_there_is_read_back(tmp_path: Path) -> None:
    kept, one = module("measured"), measured("pirate", "caa", log_of(0.5, 0.2))
    kept.write(tmp_path, one)
    assert kept.path_of(tmp_path, one.key).is_file()
    assert kept.read(tmp_path) == [one]


def swept(name: str, unsteered: float, **scores: float) -> dict[str, object]:
    """A behaviour whose settings differ by their reading alone."""
    rest = {"scope": "all", "place": "0.33", "share": 1.0, "dose": 0.2, "kl": 0.05, "perplexity_ratio": 1.1}
    settings = [{"read": read, "score": score, **rest} for read, score in scores.items()]
    return {"model": "smollm2", "behaviour": name, "unsteered": unsteered, "settings": settings}


def test_learned_defaults_are_chosen_on_one_half_and_looked_up_on_the_other() -> None:
    rows = [swept("pirate", 0.1, mean=0.5, last=0.3), swept("gloomy", 0.1, mean=0.3, last=0.3)]
    rows += [swept("cheerful", 0.2, mean=0.1, last=0.9)]  # kept for the test, and has no part in the choice
    made = module("learned").learned(rows, {"smollm2": "Small"})
    assert (
        "Small, ways of writing, mean score" in made
        and "learned on: pirate, gloomy | kept for the test: cheerful" in made
    )
    assert "| read at | `mean` | +0.30 | \u22120.10 |" in made and "| read at | `last` | +0.20 | +0.70 |" in made
    best = "| the best of 2 on the first half | `mean`, `all`, one, at 33 % of the depth | +0.30 | \u22120.10 |"
    assert best in made and "| all |  | +0.25 | +0.30 |" in made
    assert module("learned").learned([], {}) == "Not run.\n"


def test_a_setting_counts_at_the_largest_dose_that_keeps_the_budget_and_else_as_nothing() -> None:
    rows = [swept("pirate", 0.1, mean=0.4, last=0.3)]
    mean, last = rows[0]["settings"]
    rows[0]["settings"] = [mean | {"share": 1.0, "score": 0.9, "kl": 2.0}, mean | {"share": 0.63}, last | {"kl": 0.31}]
    rows[0]["settings"].append(mean | {"share": 0.4, "score": 0.2})
    made = module("learned").learned(rows, {})
    assert "| read at | `mean` | +0.30 | not run |" in made and "| read at | `last` | 0.00 | not run |" in made


def test_a_setting_that_did_not_run_on_every_behaviour_is_not_the_best_of_them() -> None:
    rows = [swept("extraversion", 0.5, mean=0.6, last=0.9), swept("agreeableness", 0.5, mean=0.6)]
    made = module("learned").learned(rows, {})
    assert "smollm2, yes/no personas, mean log-odds" in made and "| the best of 1 on the first half | `mean`," in made
    assert "| +0.10 | not run |" in made  # nothing was kept


@pytest.mark.slow
def test_the_pages_are_up_to_date() -> None:
    for path, made in module("page").made().items():
        assert path.read_text(encoding="utf-8") == made, f"{path.name} is stale: python tools/real_models/page.py"


def test_readme_shows_the_method_that_validation_prompts_took() -> None:
    made = module("first").first_table(
        [measured("pirate", "caa", log_of(0.5, 0.2)), measured("agreeableness", "caa", log_of(0.5, 0.2))]
    )
    assert (
        "| pirate | `caa` | 0.10 | 0.60 | +0.50 (+0.40 to +0.60) | 0.30 |  | not run | 0.10 | 60, 30, none, none | "
        in (made)
    )
    assert "agreeableness" not in made  # no way of writing


def test_the_autoencoder_is_told_with_its_quality_and_what_it_took(tmp_path: Path) -> None:
    one = {"l0": 40.0, "unexplained": 0.25, "silent": 0.5, "tokens": 900, "loss": 3.0, "spliced": 3.4, "without": 7.0}
    made = {
        "recipe": {"atoms": 64, "active": 8, "layer": 16, "steps": 20, "batch": 100},
        "quality": {"chats": one | {"recovered": 0.9}},
        "curve": [{"step": 20, "loss": 0.3, "dead": 5}],
        "tokens_read": 500,
        "cpu_seconds": {"reading": 10.2, "learning": 20, "measuring": 3},
    }
    page = module("autoencoder").of_figures(made)
    assert "64 atoms at `layers.16.resid_post`" in page
    assert "500 tokens read once, learnt from 4.0 times; 33 CPU s" in page
    assert "| chats | 900 | 75.0 | 40.0 | 50.0 | 3.00 | 3.40 | 7.00 | 90.0 |" in page
    assert module("autoencoder").autoencoder(tmp_path / "none.json") == "Not run.\n"
