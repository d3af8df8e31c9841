"""From labelled examples to an evaluated vector through an autoencoder, in Python and from the command line."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from tests import sae_files as made
from typer.testing import CliRunner

import tillerman
from tillerman.cli.app import app
from tillerman.core.errors import HookPointError, MismatchError, UsageError
from tillerman.methods.registry import METHODS
from tillerman.methods.sae.sta import Sta
from tillerman.pipeline.flow import run_key

SMALL = tillerman.Experiment(
    max_kl=None,
    max_perplexity_ratio=None,
    max_train=60,
    max_validation=16,
    max_test=16,
    doses=(0.2,),
    null_draws=2,
    neutral="sample:tinystories",
    neutral_tokens=256,
    unrelated_items=4,
    generations=("Tell me a story.",),
    generation_tokens=3,
    shots=2,
)


@pytest.fixture(scope="module")
def pilot():
    return tillerman.open_model("pilot")


@pytest.fixture(scope="module")
def data():
    return tillerman.load_examples("sample:interest-in-science", limit=240)


def _fit(pilot, data, method, read="auto", **options):
    experiment = replace(SMALL, method=METHODS[method](sae="pilot", **options), read=read)
    return tillerman.fit(experiment, pilot, data)


def test_the_pilots_autoencoder_is_opened_by_its_name():
    sae = tillerman.open_sae("pilot")
    assert (sae.name, str(sae.point), sae.width, sae.architecture) == ("pilot", "layers.3.resid_post", 128, "jumprelu")


@pytest.mark.slow
def test_sta_is_fitted_at_the_autoencoders_hook_point_and_reports_its_atoms(pilot, data, tmp_path):
    outcome = _fit(pilot, data, "sta")
    vector = outcome.artefact.steering
    assert [str(p) for p in vector.points] == ["layers.3.resid_post"]
    notes = "\n".join(outcome.log.notes)
    assert "autoencoder pilot (jumprelu, 1024 atoms)" in notes
    assert "atoms that pass: " in notes and "top atoms" in notes
    assert outcome.log.provenance["found"]["masks"] == vector.provenance.found["masks"]
    tillerman.save(tmp_path / "v.safetensors", outcome.artefact)
    back = tillerman.load(tmp_path / "v.safetensors")
    assert back.steering.provenance.found == vector.provenance.found
    assert back.steering.provenance.method == back.steering.provenance.options["method"] == "sta:sae=pilot"


@pytest.mark.slow
def test_a_clamped_feature_is_applied_with_its_operator_and_can_be_evaluated_again(pilot, data, tmp_path):
    outcome = _fit(pilot, data, "sae-feature", operator="clamp", read="mean")
    (item,) = outcome.artefact.plan(1.0)
    assert item.operator == "clamp_atom"
    tillerman.save(tmp_path / "v.safetensors", outcome.artefact)
    (again,) = tillerman.load(tmp_path / "v.safetensors").plan(1.0)
    ids = torch.tensor([[1, 40, 50, 60]])
    logits = []
    for one in (item, again):
        with tillerman.steer(pilot.model, replace(one, scope=tillerman.Scope("all"))):
            logits.append(pilot.model(ids).logits)
    assert torch.equal(*logits)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"layers": (2, 4)}, HookPointError, "--layers leaves out layer 3, which the autoencoder pilot reads"),
        ({"site": "resid_pre"}, MismatchError, r"was made for layers.3.resid_post, not for layers.3.resid_pre"),
        ({"read_site": "resid_pre"}, MismatchError, "not for layers.3.resid_pre"),
    ],
)
def test_a_hook_point_that_is_not_the_autoencoders_is_one_clear_error(pilot, data, changes, error, said):
    experiment = replace(SMALL, method="sta:sae=pilot", **changes)
    with pytest.raises(error, match=said):
        tillerman.fit(experiment, pilot, data)


def test_an_autoencoder_of_another_model_is_refused(pilot, data, tmp_path):
    foreign = made.write_saelens(made.orthogonal(128, 64, layer=3, threshold=50.0), tmp_path / "foreign")
    experiment = replace(SMALL, method=Sta(sae=str(foreign)))
    with pytest.raises(MismatchError, match=r"the autoencoder foreign does not describe pilot at layers.3.resid_post"):
        tillerman.fit(experiment, pilot, data)


@pytest.mark.slow
def test_the_command_line_fits_shows_and_refuses(tmp_path):
    run = CliRunner()
    out = tmp_path / "v.safetensors"
    asked = [
        "fit",
        "sample:interest-in-science",
        "--limit",
        "150",
        "--method",
        "sae-feature:sae=pilot,feature=813",
        "--doses",
        "0.3",
        "--out",
        str(out),
        "--json",
    ]
    done = run.invoke(app, asked)
    assert done.exit_code in (0, 3), done.output
    assert any("atom 813: ROC-AUC" in note for note in json.loads(done.stdout)["notes"])
    shown = run.invoke(app, ["show", str(out)])
    assert "atom 813" in shown.stdout
    for options, said in (
        (["--method", "caa:share=0.1"], "caa: no option 'share'; it takes none"),
        (["--method", "sta"], "reads a sparse autoencoder"),
    ):
        refused = run.invoke(app, ["fit", "sample:interest-in-science", *options])
        assert isinstance(refused.exception, UsageError) and said in str(refused.exception)


def test_other_files_at_the_same_place_are_another_run(pilot, data, tmp_path):
    keys = []
    for seed in (0, 1, 0):
        folder = made.write_saelens(made.orthogonal(128, 64, layer=3, seed=seed), tmp_path / "sae")
        experiment = replace(SMALL, method=f"sta:sae={folder}")
        keys.append(run_key(experiment, [0], pilot, data))
    assert keys[0] == keys[2] != keys[1]
