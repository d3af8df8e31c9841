"""COLD with the largest entries of its displacement alone, and what a run may ask of COLD methods."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

import tillerman
from tillerman.cli.app import app
from tillerman.core.artefact import Artefact, load, save
from tillerman.core.cell import Cell
from tillerman.core.errors import ArtefactError, FitError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.methods.cold import ColdFd, ColdJvp, ColdKernel, ColdKernelSingle
from tillerman.methods.registry import method
from tillerman.models.lookahead import SecondStream, agreement
from tillerman.pipeline.run import Unwatched
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.vectors import fit_methods

from .. import tiny
from .test_cold import AHEAD, EXAMPLES, FAMILIES, POINT, POINTS, ROWS, changed, lesson

MODES = ["fd", "jvp"]


def fitted(opened, mode="fd", points=POINTS, **options):
    return AHEAD[mode](**options).fit_taught(lesson(opened, points=points), EXAMPLES)


def whole_of(thin, plain):
    """The thinned displacement, dense, by the names of the whole one."""
    kept = thin.displacement
    return {n: kept[n].to_dense() if n in kept else torch.zeros_like(g) for n, g in plain.displacement.items()}


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors.values()])


# the displacement


@pytest.mark.parametrize("mode", MODES)
def test_to_keep_all_is_bit_equal_to_not_asking(mode, opened):
    one, other = fitted(opened, mode), fitted(opened, mode, keep=1.0)
    assert set(one.displacement) == set(other.displacement)
    assert all(torch.equal(one.displacement[n], g) for n, g in other.displacement.items())
    assert (one.epsilon, dict(one.change_norms)) == (other.epsilon, dict(other.change_norms))
    assert other.provenance.found == {}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", MODES)
def test_the_change_is_that_of_a_gradient_whose_other_entries_are_set_to_0(family, mode):
    opened = tiny.opened(family)
    plain, thin = fitted(opened, mode), fitted(opened, mode, keep=0.02)
    size = flat(plain.displacement).abs()
    least = size.sort(descending=True).values[-(-len(size) // 50) - 1]
    by_hand = {n: torch.where(g.abs() >= least, g, 0.0) for n, g in plain.displacement.items()}
    assert torch.equal(flat(whole_of(thin, plain)), flat(by_hand))
    assert any(t.is_sparse for t in thin.displacement.values())
    dense = replace(plain, displacement=by_hand, epsilon=thin.epsilon).at(POINT)
    assert torch.equal(changed(opened.model, thin.at(POINT), 1.0), changed(opened.model, dense, 1.0))


def test_parameters_with_nothing_left_are_gone_and_the_second_stream_shares_the_models(opened):
    plain, thin = fitted(opened), fitted(opened, keep=0.001)
    gone = set(plain.displacement) - set(thin.displacement)
    assert gone and set(thin.depths) == set(thin.displacement)
    stream = SecondStream(opened.parts, thin)
    own = dict(opened.parts.decoder.named_parameters())
    theirs = dict(stream._parts.decoder.named_parameters())
    assert all(theirs[name].data_ptr() == own[name].data_ptr() for name in gone)
    for name in thin.displacement:
        path, _, last = name.rpartition(".")
        moved = stream._parts.decoder.get_submodule(path)._parameters[last]
        assert moved.data_ptr() != own[name].data_ptr() and not torch.equal(moved, own[name])


@pytest.mark.parametrize("mode", MODES)
def test_a_lower_hook_point_is_steered_without_what_lies_above_it(mode, opened):
    thin, low = fitted(opened, mode, keep=0.05), HookPoint(0)
    one = thin.at(low)
    assert set(one.displacement) < set(thin.displacement)
    assert max(one.depths.values()) <= 0
    dense = replace(one, displacement={n: t.to_dense() for n, t in one.displacement.items()})
    assert torch.equal(changed(opened.model, one, 1.0, point=low), changed(opened.model, dense, 1.0, point=low))


@pytest.mark.parametrize("mode", MODES)
def test_a_share_that_leaves_a_hook_point_nothing_is_refused(mode):
    opened = tiny.fresh_opened()
    mlp = opened.parts.blocks[1].mlp
    with torch.no_grad():  # the same model, with the largest gradients in block 1
        mlp.up_proj.weight.mul_(1e3)
        mlp.down_proj.weight.div_(1e3)
    assert set(fitted(opened, mode, [POINT], keep=1e-6).depths.values()) == {1}
    with pytest.raises(FitError, match=r"keep=1e-06 keeps too little .*layers\.0\.resid_post.*; keep more"):
        fitted(opened, mode, keep=1e-6)


# what the fit says of itself


def test_the_fit_says_what_is_kept_what_it_takes_and_how_alike_the_change_is(opened):
    plain, thin = fitted(opened, "jvp"), fitted(opened, "jvp", keep=0.03)
    facts = thin.provenance.found["displaced"]
    every = flat(plain.displacement)
    assert facts["of"] == len(every)
    assert facts["kept"] == int(flat(whole_of(thin, plain)).count_nonzero()) == -(-len(every) * 3 // 100)
    assert facts["dense_bytes"] == 4 * len(every)
    held = [(t.indices().nbytes + t.values().nbytes) if t.is_sparse else t.nbytes for t in thin.displacement.values()]
    assert facts["bytes"] == sum(held) < facts["dense_bytes"]
    for (name, cosine, ratio), point in zip(facts["agreement"], POINTS, strict=True):
        ends = [
            torch.cat([changed(opened.model, s.at(point), 1.0, [e.prompt], point)[-1:] for e in EXAMPLES])
            for s in (thin, plain)
        ]
        assert name == str(point)
        assert cosine == pytest.approx(float(torch.cosine_similarity(*ends).mean()), abs=1e-3)
        assert ratio == pytest.approx(float(ends[0].norm(dim=1).mean() / ends[1].norm(dim=1).mean()), abs=1e-3)
        assert 0.2 < cosine < 0.9999


def test_what_is_kept_agrees_the_more_the_more_is_kept(opened):
    def agreement(keep):
        return [row[1:] for row in fitted(opened, keep=keep).provenance.found["displaced"]["agreement"]]

    few, many = agreement(0.01), agreement(0.5)
    assert all(a < b for one, other in zip(few, many, strict=True) for a, b in zip(one, other, strict=True))
    assert all(abs(x - 1) < 0.05 for row in many for x in row)


def test_changes_of_any_length_can_be_compared(opened):
    plain, thin = fitted(opened, "jvp"), fitted(opened, "jvp", keep=0.03)
    short = replace(thin, displacement={n: 1e-14 * t for n, t in thin.displacement.items()})
    one, other = (agreement(opened, s, plain, ROWS)[POINT][0] for s in (thin, short))
    assert one == pytest.approx(other, abs=1e-4)


def test_what_the_fit_found_is_told_in_two_lines(opened):
    facts = {
        "kept": 1250,
        "of": 100_000,
        "bytes": 25_000,
        "dense_bytes": 400_000,
        "agreement": [["layers.1.resid_post", 0.9812, 0.66]],
    }
    first, second = ColdFd().report({"displaced": facts})
    assert "1,250 of 100,000 entries kept (1.25%), in 25,000 bytes instead of 400,000 (6.2%)" in first
    assert second.endswith("layers.1.resid_post 0.981, 0.660")
    assert len(ColdFd().report(fitted(opened, keep=0.1).provenance.found)) == 2


# the file


@pytest.mark.parametrize("mode", MODES)
def test_a_thinned_displacement_is_saved_small_and_loaded_to_the_same_change(mode, opened, tmp_path):
    plain, thin = fitted(opened, mode), fitted(opened, mode, keep=0.01)
    for name, steering in (("plain", plain), ("thin", thin)):
        save(tmp_path / f"{name}.safetensors", Artefact(steering, Cell.of(steering)))
    back = load(tmp_path / "thin.safetensors").steering
    assert {n for n, t in back.displacement.items() if t.is_sparse} == {
        n for n, t in thin.displacement.items() if t.is_sparse
    }
    assert torch.equal(changed(opened.model, thin.at(POINT), 1.0), changed(opened.model, back.at(POINT), 1.0))
    assert back.provenance.found == thin.provenance.found
    with safe_open(tmp_path / "thin.safetensors", framework="pt") as file:
        held = sum(file.get_tensor(key).nbytes for key in file.keys())  # noqa: SIM118 (safe_open is no mapping)
    sparse = {n: t for n, t in thin.displacement.items() if t.is_sparse}
    dense = sum(t.nbytes for n, t in thin.displacement.items() if n not in sparse)
    assert held == 8 * sum(len(t.values()) for t in sparse.values()) + dense
    assert held < 0.05 * 4 * len(flat(plain.displacement))


def test_a_file_written_before_there_was_a_sparse_form_still_loads(opened, tmp_path, monkeypatch):
    from tillerman.core import artefact as module

    def older(steering):
        tensors, head = taken_apart(steering)
        del head["sparse"]
        return tensors, head

    taken_apart, plain = module.taken_apart, fitted(opened)
    monkeypatch.setattr(module, "taken_apart", older)
    save(tmp_path / "v.safetensors", Artefact(plain, Cell.of(plain)))
    back = load(tmp_path / "v.safetensors").steering
    assert all(torch.equal(t, back.displacement[n]) for n, t in plain.displacement.items())


def test_a_file_whose_places_lie_outside_is_damaged(opened, tmp_path, monkeypatch):
    from tillerman.core import artefact as module

    def shrunk(steering):
        tensors, head = taken_apart(steering)
        return tensors, head | {"sparse": {key: [1, 1] for key in head["sparse"]}}

    taken_apart, thin = module.taken_apart, fitted(opened, keep=0.01)
    monkeypatch.setattr(module, "taken_apart", shrunk)
    save(tmp_path / "v.safetensors", Artefact(thin, Cell.of(thin)))
    with pytest.raises(ArtefactError, match=r"damaged .*do not fit the shape"):
        load(tmp_path / "v.safetensors")


# options


@pytest.mark.parametrize("keep", [0.0, -0.1, 1.5, float("nan")])
@pytest.mark.parametrize("kind", [ColdFd, ColdJvp])
def test_a_share_outside_0_to_1_is_refused(kind, keep):
    with pytest.raises(UsageError, match=r"cold-\w+: keep=.*: expected a number above 0, at most 1"):
        kind(keep=keep)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("inf"), float("nan")])
def test_a_step_that_is_none_is_refused(epsilon):
    with pytest.raises(UsageError, match=r"cold-fd: epsilon=.*: expected a number above 0"):
        ColdFd(epsilon=epsilon)


def test_a_run_cannot_ask_for_shares_and_is_told_the_python_way():
    with pytest.raises(UsageError, match=r"in Python give Taught\(prompt, answers, target\)"):
        tillerman.Experiment(method="cold-fd:loss=shares")
    with pytest.raises(UsageError, match="expected one of pair, rejected, positive, negative, shares"):
        ColdKernel(loss="hinge")


def test_a_step_and_a_share_from_the_spec_are_those_of_the_fit(opened):
    ahead = method("cold-fd:loss=positive,epsilon=1e-3,keep=0.1").fit(lesson(opened))
    assert ahead.epsilon == 1e-3
    assert ahead.provenance.found["displaced"]["kept"] > 0
    by_hand = ColdFd("positive", 1e-3, 0.1).fit(lesson(opened))
    assert torch.equal(changed(opened.model, ahead.at(POINT), 1.0), changed(opened.model, by_hand.at(POINT), 1.0))
    assert "displaced" in method("cold-jvp:keep=0.1").fit(lesson(opened)).provenance.found
    unit, plain = (method(spec).fit(lesson(opened)) for spec in ("cold-kernel:loss=positive", "cold-kernel"))
    assert not torch.equal(unit.directions[POINT], plain.directions[POINT])


@pytest.mark.parametrize(
    ("spec", "remedy"),
    [
        ("cold-kernel-single:loss=positive", "cold-kernel-single: no option 'loss'; it takes none"),
        ("cold-jvp:epsilon=0.1", "cold-jvp: no option 'epsilon'; it takes loss, keep"),
        ("cold-kernel:keep=0.1", "cold-kernel: no option 'keep'; it takes loss"),
        ("cold-fd:kep=0.1", r"cold-fd: no option 'kep'; it takes loss, epsilon, keep\. Did you mean 'keep'\?"),
    ],
)
def test_an_option_that_a_method_does_not_take_is_refused_with_those_it_takes(spec, remedy):
    with pytest.raises(UsageError, match=remedy):
        tillerman.Experiment(method=spec)


def test_the_single_kernel_is_the_rejected_loss(opened):
    one, other = (kind.fit(lesson(opened)).directions[POINT] for kind in (ColdKernelSingle(), ColdKernel("rejected")))
    assert torch.equal(one, other)


def test_a_fit_hands_what_was_asked_to_its_methods():
    spec = "cold-fd:epsilon=0.001,keep=0.05"
    experiment = tillerman.Experiment(method=spec, layers=(0,), max_train=8)
    data = tillerman.load_examples("sample:interest-in-science", limit=60)
    bench = set_up(experiment, tillerman.open_model("pilot"), data, tillerman.Store(None, ""), Unwatched())
    one = fit_methods(bench)[0][spec]
    for made in (one.vector, one.shuffled(0)):
        assert made.epsilon == 1e-3
        assert made.provenance.found["displaced"]["kept"] > 0
    assert one.vector.provenance.options["method"] == one.vector.provenance.method == spec


@pytest.mark.slow
def test_the_command_line_asks_for_all_three_and_the_artefact_remembers(tmp_path):
    path = tmp_path / "v.safetensors"
    call = [
        "fit",
        "sample:interest-in-science",
        "--method",
        "cold-fd:loss=positive,epsilon=0.001,keep=0.05",
        "--layers",
        "1",
        "--doses",
        "0.2",
        "--limit",
        "60",
        "--json",
        "-o",
        str(path),
    ]
    done = CliRunner().invoke(app, call)
    assert done.exit_code in (0, 3), done.output
    made = load(path).steering
    assert made.provenance.method == "cold-fd:loss=positive,epsilon=0.001,keep=0.05"
    assert made.epsilon == 0.001
    notes = json.dumps(load(path).card.report["notes"])
    assert "entries kept (5.00%)" in notes and "mean cosine, ratio of norms" in notes
