"""``tillerman certify`` from the command line: measured, signed, checked, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import tillerman
from tillerman.cli.output import NO_EFFECT
from tillerman.core.packs import write_pack
from tillerman.core.plan import Plan

from ..studies.conftest import SMALL
from .running import run

DATA = "sample:interest-in-science"
QUICK = ["--limit", "20", "--text-tokens", "2", "--draws", "2", "--counts", "4,8,16", "--context-tokens", "0"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("certify") / "v.safetensors"
    data = tillerman.load_examples(DATA)
    tillerman.save(path, tillerman.fit(SMALL, tillerman.open_model("pilot"), data).artefact)
    return path


@pytest.fixture
def artefact(fitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(fitted, tmp_path))


@pytest.mark.slow
def test_a_certificate_is_measured_signed_and_checked(artefact: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    out = run("certify", artefact, DATA, *QUICK, "--sign", key, "--new-key", "--json", code=NO_EFFECT)
    made = json.loads(out)  # a dose of 0.2 is beyond the budget
    assert made["verdict"]["words"].startswith("Not certified.") and made["key"].startswith("ed25519:")
    assert tillerman.load(artefact).plan() and _strength(tillerman.load(artefact).plan()) > 0
    out = run("certify", artefact, "--check", "--trust", made["key"], code=NO_EFFECT)
    assert "Not certified." in out and f"signed by {made['key']}" in out
    assert "was expected" in run("certify", artefact, "--check", "--trust", "ed25519:" + "A" * 43 + "=", code=None)
    out = run("certify", artefact, DATA, *QUICK, "--exit-zero", "--max-kl", "2", "--max-perplexity-ratio", "3")
    assert "certificate not signed" in out


def _strength(plan: Plan) -> float:
    return plan[0].strength


def test_what_cannot_be_is_refused_before_anything_is_measured(artefact: Path, tmp_path: Path) -> None:
    path, key = str(artefact), str(tmp_path / "key.pem")
    for words, says in (
        ((path,), "DATA is missing"),
        ((path, DATA, "--check"), "--check measures and writes nothing"),
        ((path, "--check"), "the card has no study certify"),
        ((path, DATA, "--trust", "ed25519:x"), "--trust is asked with --check"),
        ((path, DATA, "--new-key"), "--new-key makes the key of --sign"),
        ((path, DATA, "--counts", "4,8"), "at least three numbers of examples"),
        ((path, DATA, "--max-kl", "0"), "the budget"),
        ((path, DATA, "--sign", key), "key.pem"),
        ((path, "sample:agreeableness"), "nobody knows which items its fit has seen"),
    ):
        assert says in run("certify", *words, code=None), words
    write_pack(artefact.parent)
    assert "lies on a hub or in a pack" in run("certify", path, DATA, code=None)
