"""What runs inside vLLM and needs none of it: where artefacts are found, and the sums of their vectors."""

from __future__ import annotations

import hashlib

import pytest
import torch

from tillerman.core.artefact import Artefact, save
from tillerman.core.cell import Cell
from tillerman.core.errors import ArtefactError, MismatchError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention
from tillerman.serving.engines.vllm.options import VllmSettings
from tillerman.serving.engines.vllm.setting import Setting, read
from tillerman.serving.engines.vllm.vectors import ServedVectors
from tillerman.serving.lanes import Pull, lane_plan

from .. import tiny

ONE, TWO = tiny.vector(1, seed=1), tiny.vector(1, 2, seed=2)


@pytest.fixture
def folder(tmp_path):
    """With an artefact beside it, which is not served."""
    inside = tmp_path / "served"
    inside.mkdir()
    for name, vector in (("served/one", ONE), ("served/two", TWO), ("outside", ONE)):
        save(tmp_path / f"{name}.safetensors", Artefact(vector, Cell.of(vector)))
    return inside


def _digest(folder, name):
    return hashlib.sha256((folder / f"{name}.safetensors").read_bytes()).hexdigest()


def test_the_setting_comes_back_from_its_environment(folder):
    assert read({}) is None
    for text, layers in (("auto", (1, 2)), ("all", None), ("2,0,2", (0, 2))):
        found = read({"TILLERMAN_ARTEFACTS": str(folder), "TILLERMAN_LAYERS": text})
        assert found == Setting(folder, layers)
        assert read(found.to_environment()) == found


@pytest.mark.parametrize(
    ("layers", "there", "why"), [("two", True, "expected auto, all, or layers"), ("all", False, "is not a folder")]
)
def test_a_setting_that_is_wrong_says_so(folder, layers, there, why):
    with pytest.raises(UsageError, match=why):
        read({"TILLERMAN_ARTEFACTS": str(folder if there else folder / "no"), "TILLERMAN_LAYERS": layers})


def test_a_sum_is_that_of_the_vectors_rounded_once(folder):
    vectors = ServedVectors(folder)
    plan = (Intervention(ONE, 0.5), Intervention(TWO, -2.0))
    (lane,) = lane_plan(plan, [_digest(folder, "one"), _digest(folder, "two")]).lanes((3, 4))
    found = vectors.sum(lane.pulls, (1, 2), tiny.WIDTH, torch.bfloat16)
    first, second = HookPoint(1), HookPoint(2)
    at_one = 0.5 * ONE.directions[first].double() - 2.0 * TWO.directions[first].double()
    assert torch.equal(found, torch.stack([at_one, -2.0 * TWO.directions[second].double()]).to(torch.bfloat16))


def test_a_vector_is_known_by_what_its_file_holds(folder):
    vectors, digest = ServedVectors(folder), _digest(folder, "one")
    artefact, found = vectors.named("one")
    assert found == digest and torch.equal(artefact.steering.directions[HookPoint(1)], ONE.directions[HookPoint(1)])
    save(folder / "one.safetensors", Artefact(TWO, Cell.of(TWO)))
    assert vectors.of(digest) is artefact  # a request that was admitted with it
    with pytest.raises(ArtefactError, match=f"no artefact with the digest {digest[:12]}"):
        ServedVectors(folder).of(digest)


@pytest.mark.parametrize("name", ["three", "../outside", "a/one", ""])
def test_a_name_without_a_file_of_the_folder_is_refused(folder, name):
    with pytest.raises(ArtefactError, match="there are: one, two"):
        ServedVectors(folder).named(name)


def test_a_sum_that_the_model_cannot_take_is_refused(folder):
    vectors, digest = ServedVectors(folder), _digest(folder, "one")
    point = "layers.1.resid_post"
    for pull, kind, why in (
        (Pull(1, digest, point, 1e38), UsageError, "overflows float16"),
        (Pull(2, digest, "layers.2.resid_post", 1.0), MismatchError, "has no vector of width 32 there"),
        (Pull(0, digest, "layers.0.resid_post", 1.0), UsageError, "outputs of blocks 1, 2 only"),
    ):
        with pytest.raises(kind, match=why):
            vectors.sum(frozenset([pull]), (1, 2), tiny.WIDTH, torch.float16)


def test_arguments_that_are_wrong_are_refused_before_anything_is_started():
    with pytest.raises(UsageError, match="arm_layers 'some': expected auto, all, or layers"):
        VllmSettings(arm_layers="some")
    with pytest.raises(UsageError, match="start_seconds"):
        VllmSettings(start_seconds=0)
