"""What runs inside vLLM and needs none of it: where artefacts are found, and the sums of their vectors."""

from __future__ import annotations

import hashlib
from dataclasses import replace

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
from tillerman.serving.lanes import lane_plan
from tillerman.serving.pulls import Pull

from .. import tiny

ONE, TWO = tiny.vector(1, seed=1), tiny.vector(1, 2, seed=2)
HELD, CUT = replace(tiny.vector(1, seed=3), operator="clamp"), replace(TWO, operator="ablate")


@pytest.fixture
def folder(tmp_path):
    """With an artefact beside it, which is not served."""
    inside = tmp_path / "served"
    inside.mkdir()
    for name, vector in (
        ("served/one", ONE),
        ("served/two", TWO),
        ("served/held", HELD),
        ("served/cut", CUT),
        ("outside", ONE),
    ):
        save(tmp_path / f"{name}.safetensors", Artefact(vector, Cell.of(vector)))
    return inside


def _digest(folder, name):
    return hashlib.sha256((folder / f"{name}.safetensors").read_bytes()).hexdigest()


def test_the_setting_comes_back_from_its_environment(folder):
    assert read({}) is None
    for text, layers in (("auto", (1, 2)), ("all", None), ("2,0,2", (0, 2))):
        for told, reads in (("auto", {1: 2, 2: 1}), ("3", 3), ("2:1,0:3", {2: 1, 0: 3})):
            asked = {"TILLERMAN_LAYERS": text, "TILLERMAN_READS": told}
            found = read({"TILLERMAN_ARTEFACTS": str(folder), **asked})
            assert found == Setting(folder, layers, reads)
            assert read(found.to_environment()) == found
    assert [Setting(folder, None, {1: 2}).reads_at(block) for block in (0, 1)] == [0, 2]
    assert Setting(folder, None, 3).reads_at(0) == 3


def test_numbers_of_readers_that_are_wrong_say_so(folder):
    for text in ("few", "1:", "1:2,3", "-1"):
        with pytest.raises(UsageError, match=r"TILLERMAN_READS .* expected auto, a number such as 2"):
            read({"TILLERMAN_ARTEFACTS": str(folder), "TILLERMAN_READS": text})


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
    changes = vectors.changes(lane.pulls, {1: 0, 2: 0}, tiny.WIDTH, torch.bfloat16)
    found = torch.stack([change.sum.to(torch.bfloat16) for change in changes])
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
    with pytest.raises(ArtefactError, match="there are: cut, held, one, two"):
        ServedVectors(folder).named(name)


def test_operators_that_read_are_prepared_for_as_far_as_a_block_has_readers(folder):
    vectors, digest = ServedVectors(folder), _digest(folder, "cut")
    cut = Pull(2, digest, "layers.2.resid_post", 1.0, "ablate")
    first, second = vectors.changes((cut,), {1: 1, 2: 2}, tiny.WIDTH, torch.float32)
    unit = TWO.directions[HookPoint(2)].double()
    unit = unit / unit.norm()
    assert not first.writers.any() and torch.allclose(second.writers, torch.stack([-unit, torch.zeros_like(unit)]))
    with pytest.raises(UsageError, match=r"block 2: 2 interventions .* prepared for 1; .* TILLERMAN_READS=2"):
        vectors.changes((cut, cut), {1: 2, 2: 1}, tiny.WIDTH, torch.float32)
    with pytest.raises(UsageError, match="overflows float32"):
        vectors.changes((replace(cut, strength=1e39),), {2: 1}, tiny.WIDTH, torch.float32)
    with pytest.raises(UsageError, match="names no atom"):
        vectors.changes((replace(cut, operator="clamp_atom"),), {2: 1}, tiny.WIDTH, torch.float32)


def test_a_sum_that_the_model_cannot_take_is_refused(folder):
    vectors, digest = ServedVectors(folder), _digest(folder, "one")
    point = "layers.1.resid_post"
    for pull, kind, why in (
        (Pull(1, digest, point, 1e38), UsageError, "overflows float16"),
        (Pull(2, digest, "layers.2.resid_post", 1.0), MismatchError, "has no vector there"),
        (Pull(0, digest, "layers.0.resid_post", 1.0), UsageError, "outputs of blocks 1, 2 only"),
    ):
        with pytest.raises(kind, match=why):
            vectors.changes((pull,), {1: 0, 2: 0}, tiny.WIDTH, torch.float16)


def test_arguments_that_are_wrong_are_refused_before_anything_is_started():
    with pytest.raises(UsageError, match="arm_layers 'some': expected auto, all, or layers"):
        VllmSettings(arm_layers="some")
    with pytest.raises(UsageError, match="arm_reads '2:': expected auto, a number such as 2"):
        VllmSettings(arm_reads="2:")
    with pytest.raises(UsageError, match="start_seconds"):
        VllmSettings(start_seconds=0)
