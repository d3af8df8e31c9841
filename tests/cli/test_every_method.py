"""Every registered method from the command line to the end: fit, save, load, show, steer, evaluate."""

from __future__ import annotations

import gzip
import json
from itertools import islice

import pytest
from typer.testing import CliRunner

from tillerman.cli.app import app
from tillerman.data.neutral import load_texts
from tillerman.data.samples import sample_path
from tillerman.methods.estimators import ESTIMATORS
from tillerman.methods.registry import METHODS
from tillerman.methods.sae.base import SaeMethod

QUICK = ["--limit", "60", "--shots", "2", "--written-prompts", "2", "--json"]
TRAINED = ("bipo", "reps", "cdas", "reft-r1")
NAMES = [
    *(f"{name}:sae=pilot" if issubclass(kind, SaeMethod) else name for name, kind in METHODS.items()),
    *(f"caa+{name}" for name in ESTIMATORS if name != "mean_difference"),
    "prompt-vector+sta:sae=pilot",
]


@pytest.fixture(scope="module")
def little(tmp_path_factory):
    """Neutral text and an unrelated task of a few lines: what they measure is tested elsewhere."""
    folder = tmp_path_factory.mktemp("little")
    (folder / "neutral.txt").write_text("\n\n".join(load_texts("sample:tinystories")[:4]))
    with gzip.open(sample_path("bbq-age"), "rt") as rows:
        (folder / "unrelated.jsonl").write_text("".join(islice(rows, 24)))
    return ["--neutral", str(folder / "neutral.txt"), "--unrelated", str(folder / "unrelated.jsonl")]


def _run(*words: str, allowed: tuple[int, ...] = (0,)) -> dict:
    made = CliRunner().invoke(app, list(words))
    assert made.exit_code in allowed, f"{made.output}\n{made.exception!r}"
    return json.loads(made.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_method_runs_from_the_command_line_to_the_end(name, tmp_path, little):
    path = str(tmp_path / "v.safetensors")
    trained = ["--max-train", "12"] if name in TRAINED else []  # each of the null's draws is a training of its own
    name = f"{name}:steps=2" if trained else name
    routed = name.startswith("rice")
    data, model = ("sample:sums", "pilot-moe") if routed else ("sample:interest-in-science", "pilot")
    grid = ["--answer-tokens", "60", "--strengths", "0.5"] if routed else ["--layers", "2,3", "--strengths", "1"]
    # Exit code 3: no effect was found, which is an answer too.
    fitted = _run(
        "fit", data, "-m", model, "--method", name, *grid, *trained, *QUICK, *little, "-o", path, allowed=(0, 3)
    )
    shown = _run("show", path, "--json")
    assert shown["provenance"]["method"] == name
    assert {"unsteered", "steered", "nulls", "prompt_baseline"} <= set(fitted)
    tokens = ["--answer-tokens", "60"] if routed else []
    again = _run("eval", path, data, "-m", model, "--strength", "1", *tokens, *QUICK, *little, allowed=(0, 3))
    assert again["method"] == name and again["strength"] == 1 and again["n_test"] == fitted["n_test"]
    said = _run("generate", "What do you like?", "-a", path, "-m", model, "--strengths", "1", "--tokens", "4", "--json")
    assert [row["strength"] for row in said["continuations"]] == [0, 1]
