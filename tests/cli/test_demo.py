"""What the demo promises, on the embedded model and data: effects on unseen items, and nulls that show none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import tillerman
from tillerman.cli import options as o
from tillerman.cli.commands.demo import BEHAVIOURS, programme, run_demo, write_demo
from tillerman.core.errors import FitError
from tillerman.data.samples import SAMPLES, WAYS_OF_WRITING
from tillerman.reports.overview import account

from .. import tiny

STORED = Path(__file__).resolve().parents[2] / "docs/logs/demo.json"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pas", "caa"])
def test_the_demo_finds_effects_where_the_nulls_find_none(method: str, tmp_path: Path) -> None:
    logs = run_demo(tmp_path, programme(method=method), Console(quiet=True))
    write_demo(logs, tmp_path)
    if method == "pas":  # the log that README's excerpt is made of
        stored = [tillerman.EvaluationLog.from_json(values) for values in json.loads(STORED.read_text())]
        assert [table.rows for table in account(stored).tables] == [table.rows for table in account(logs).tables]
    found = [log.effect.interval.low > 0 for log in logs]
    silent = [
        all(null.effect is not None and null.effect.interval.low <= 0 for null in log.conditions if "null" in null.name)
        for log in logs
    ]
    assert sum(f and s for f, s in zip(found, silent, strict=True)) >= 3, (found, silent)
    unseen = [f for name, f in zip(BEHAVIOURS, found, strict=True) if not SAMPLES[name].trained]
    assert unseen == [True, True]
    assert len(json.loads((tmp_path / "log.json").read_text())) == len(BEHAVIOURS)
    assert "<svg" in (tmp_path / "report.html").read_text()
    for name in BEHAVIOURS:
        assert tillerman.load(tmp_path / f"{name}.safetensors").card is not None


def small(*behaviours: str, **more: object) -> object:
    asked = programme("a model")
    less = {
        "layers": (0, 1),
        "doses": (0.2, 0.5),
        "null_draws": 2,
        "neutral_tokens": 256,
        "unrelated_items": 4,
        "shots": 2,
    }
    less |= {"written_prompts": 4, "written_tokens": 8, "prompt": "You are a pirate.", "read": "mean"}
    return replace(asked, behaviours=behaviours, experiment=replace(asked.experiment, **{**less, **more}))


def folder_of(tmp_path: Path, chat: str | None) -> o.ModelChoice:
    made = tiny.new_model()
    made.config.max_position_embeddings = 2048
    made.save_pretrained(tmp_path / "model")
    tiny.new_tokenizer(chat).save_pretrained(tmp_path / "model")
    return o.ModelChoice(str(tmp_path / "model"))


def test_any_other_model_is_shown_ways_of_writing_and_the_search_goes_by_what_it_writes() -> None:
    asked = programme("a model")
    assert asked.behaviours == WAYS_OF_WRITING
    assert (asked.experiment.spec, asked.experiment.objective) == ("writing", "written")
    assert programme().behaviours == BEHAVIOURS and programme().experiment.objective == "scored"
    assert programme("a model", "cold-kernel", 3).experiment.spec == "cold-kernel"


@pytest.mark.slow
@pytest.mark.parametrize("chat", [tiny.CHAT, None], ids=["with a chat template", "without one"])
def test_the_demo_on_a_model_of_ones_own_puts_texts_side_by_side(chat: str | None, tmp_path: Path) -> None:
    logs = run_demo(tmp_path, small("pirate"), Console(quiet=True), folder_of(tmp_path, chat))
    write_demo(logs, tmp_path)
    *_, written, texts = account(logs).tables
    assert [row[0] for row in written.rows] == ["pirate"] and written.title.startswith("Written replies")
    ((name, question, plain, _, prompted),) = texts.rows
    assert logs[0].written is not None and question == logs[0].written.prompts[0]
    assert name == "pirate" and plain and prompted
    assert "Written replies" in (tmp_path / "report.html").read_text()
    assert tillerman.load(tmp_path / "pirate.safetensors").card is not None


def test_a_behaviour_that_cannot_be_fitted_is_left_out_and_one_is_needed(tmp_path: Path) -> None:
    choice, console = folder_of(tmp_path, tiny.CHAT), Console(record=True, quiet=True)
    with pytest.raises(FitError, match="no wanted and unwanted texts"):  # yes/no items have no texts
        run_demo(tmp_path, small("agreeableness", max_train=8, max_validation=4, max_test=4), console, choice)
