"""The page of concept detection is what its logs say; a planted concept is found and a random direction finds none."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pandas as pd
import pytest

from .. import tiny

TOOLS = Path(__file__).parents[2] / "tools" / "detection"
NAMES = ("page", "found", "measure", "pages")  # of other tools too


@pytest.fixture(scope="module", autouse=True)
def tools():
    kept = {name: sys.modules.pop(name) for name in NAMES if name in sys.modules}
    sys.path.insert(0, str(TOOLS))
    yield
    sys.path.remove(str(TOOLS))
    for name in NAMES:
        sys.modules.pop(name, None)
    sys.modules.update(kept)


def test_the_page_is_up_to_date() -> None:
    for path, made in importlib.import_module("page").made().items():
        assert path.read_text(encoding="utf-8") == made, "stale: python tools/detection/page.py"


def rows(count: int, *, held_out: bool = False) -> pd.DataFrame:
    """The concept is the word "cat"; what is asked tells nothing."""
    table = []
    for k in range(count):
        other = ("sun", "sky", "river")[k % 3]
        for concept, category, word in ((0, "positive", "cat"), (0 if held_out else -1, "negative", "stone")):
            text = f"The {other} and the {word} and the {('grass', 'fruit')[k % 2]}"
            label = "cats" if category == "positive" else "EEEEE"
            table.append(("What is it?", text, label, "text", category, "instruction", concept))
    names = ["input", "output", "output_concept", "concept_genre", "category", "dataset_category", "concept_id"]
    return pd.DataFrame(table, columns=names)


def test_a_word_is_told_by_every_estimator_and_by_no_random_direction(tmp_path: Path) -> None:
    module, opened = importlib.import_module("measure"), tiny.opened("llama")
    folder = tmp_path / "set"
    for name, table in (("generate/train_data", rows(16)), ("inference/latent_eval_data", rows(12, held_out=True))):
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True)
        table.to_parquet(path)
    out = tmp_path / "out"
    out.mkdir()
    module.measure(out, "tiny", opened, folder)
    (one,) = importlib.import_module("found").read(out)
    assert one.counts == (16, 16, 12, 12) and one.label == "cats"
    assert all(max(one.areas[name].values()) > 0.95 for name in ("mean_difference", "probe", "whitened"))
    drawn = [area for name, areas in one.areas.items() if name.startswith("random") for area in areas.values()]
    assert 0.2 < sum(drawn) / len(drawn) < 0.8
    module.measure(out, "tiny", None, folder)  # what lies there is not measured again


def test_a_side_has_as_many_texts_of_its_genre_without_the_concept() -> None:
    module = importlib.import_module("measure")
    table = rows(5)
    code = rows(4).assign(concept_genre="code")
    with_it, without = module.sides(pd.concat([code[code.concept_id == -1], table]), 0)
    assert len(with_it) == len(without) == 5
