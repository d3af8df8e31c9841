"""A method as a value: its spec prints and parses, a class of one's own is fitted, other packages add theirs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, strategies as st

import tillerman
from tillerman.core.spec import options, split_specs
from tillerman.core.steerings.vector import SteeringVector
from tillerman.methods.registry import METHODS, method, methods, spec_of
from tillerman.models.capture import capture

PLUGIN = Path(__file__).parents[1] / "plugin_package"
SMALL = tillerman.Experiment(
    max_kl=None,
    max_perplexity_ratio=None,
    max_train=20,
    max_validation=8,
    max_test=8,
    layers=(2,),
    doses=(0.2,),
    null_draws=2,
    neutral="sample:tinystories",
    neutral_tokens=256,
    unrelated_items=4,
    generations=(),
    shots=0,
)


@dataclass(frozen=True)
class Halfway(tillerman.ContrastMethod):
    name: ClassVar[str] = "halfway"
    share: float = 0.5

    def direction(self, positive, negative, paired):
        return self.share * (positive.mean(0) - negative.mean(0))


@dataclass(frozen=True)
class Ends(tillerman.Method):
    name: ClassVar[str] = "ends"

    def fit(self, context):
        seen = capture(context.opened, [w.row(w.right) for w in context.written], context.points)
        norms = {p: float(h.norm(dim=-1).mean()) for p, h in seen.items()}
        return SteeringVector({p: h.mean(0) for p, h in seen.items()}, norms, context.provenance)


def _values(one):
    info = one.info
    if info.choices:
        return st.sampled_from(info.choices)
    if one.kind is bool:
        return st.booleans()
    if one.kind is int:
        return st.integers(int(info.least or 0), 1000)
    if one.kind is float:
        return st.floats(0, info.most or 1e9, exclude_min=True)
    text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1)
    return text | st.none() if one.optional else text


@st.composite
def values(draw):
    name = draw(st.sampled_from([n for n in METHODS if not n.startswith("rice")]))
    kind = METHODS[name]
    return kind(**{o.name: draw(_values(o)) for o in options(name, kind) if o.name != "at"})


@given(values(), values())
def test_a_list_of_methods_prints_and_parses_to_the_same_values(one, other):
    assert method(str(one)) == one
    assert methods(f"{one},{other}") == tuple(dict.fromkeys((one, other)))
    assert spec_of(f"{one},{other}") == f"{one},{other}"


def test_after_a_colon_pieces_with_an_equals_sign_belong_to_the_method_before_them():
    listed = 'caa,cold-fd:keep=0.1,loss=rejected,ipas-wrong+probe,actadd:positive="I love, you",negative=a=b,pas'
    parts = ["caa", "cold-fd:keep=0.1,loss=rejected", "ipas-wrong+probe"]
    assert split_specs(listed) == [*parts, 'actadd:positive="I love, you",negative=a=b', "pas"]


@pytest.mark.slow
@pytest.mark.parametrize("own", [Halfway(0.25), Ends()])
def test_an_experiment_takes_a_class_of_ones_own(own):
    data = tillerman.load_examples("sample:interest-in-science", limit=60)
    outcome = tillerman.fit(
        tillerman.Experiment(**(vars_of(SMALL) | {"method": own})), tillerman.open_model("pilot"), data
    )
    assert outcome.log.method == str(own) == outcome.artefact.steering.provenance.options["method"]
    assert {"null:random", "null:shuffled"} <= {c.name for c in outcome.log.conditions}


def vars_of(experiment):
    return {name: getattr(experiment, name) for name in experiment.__dataclass_fields__}


@pytest.mark.slow
def test_another_package_adds_a_method_and_a_broken_one_is_left_out_with_a_warning(tmp_path):
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    source, target = shutil.copytree(PLUGIN, tmp_path / "source"), tmp_path / "installed"
    subprocess.run([*install, "--target", str(target), str(source)], check=True, capture_output=True)
    code = (
        "from tillerman.methods.registry import METHODS, method;"
        "from tillerman.evaluation.scorers.registry import text_scorer;"
        "import warnings; warnings.simplefilter('always');"  # whatever a library has asked for meanwhile
        "print(method('median:times=2'), METHODS['caa'].__name__, len(METHODS.added));"
        "print(text_scorer('vowels').score(['?'], ['aloud']))\n"
        "try: method('medan')\n"
        "except Exception as error: print(error)"
    )
    path = os.pathsep.join([str(target), *sys.path])
    mine = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"} | {"PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=mine, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["median:times=2 Caa 1", "[3.0]"]
    assert done.stdout.split("\n")[2].endswith("Did you mean 'median'?")
    said = "\n".join(line for line in done.stderr.splitlines() if "left out" in line)
    assert "tillerman-plugin: its method 'caa' is left out: the name is taken" in said, done.stderr[-2000:]
    assert "tillerman-plugin: its method 'broken' is left out: AttributeError" in said
