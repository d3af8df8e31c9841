"""Artefacts come back bit for bit, are whole or not there, and say what is wrong with a bad file."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from tillerman.core import artefact as module
from tillerman.core.artefact import Artefact, load, save
from tillerman.core.cell import Cell
from tillerman.core.errors import ArtefactError, FileError, HookPointError, TillermanError, UsageError
from tillerman.core.files import replacing, write_text
from tillerman.core.gates import ProbeGate, SimilarityGate
from tillerman.core.hookpoint import SITES, HookPoint
from tillerman.core.plan import Scope
from tillerman.core.provenance import Card
from tillerman.core.steerings.vector import SteeringVector

from .. import tiny

CARD = Card({"effect": {"value": 0.25}, "text": "ü\n"})
POINT = "layers.1.resid_post"


def _head(**changes):
    vector = tiny.vector(1)
    head = {
        "format": "tillerman-artefact",
        "version": 1,
        "kind": "SteeringVector",
        "provenance": vector.provenance.to_json(),
        "stream_norms": {POINT: 2.0},
        "card": None,
        "scope": {"name": "all", "positions": [], "marker": []},
    }
    return {k: v for k, v in {**head, **changes}.items() if v is not ...}


def _write(path, head, tensors=None):
    save_file(tensors or {POINT: torch.ones(4)}, path, metadata={"tillerman": json.dumps(head)})
    return path


@given(
    st.dictionaries(
        st.builds(HookPoint, st.integers(0, 99), st.sampled_from(SITES)),
        st.tuples(
            st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=5, max_size=5),
            st.floats(1e-30, 1e30, allow_subnormal=False),
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([None, CARD]),
    st.sampled_from(
        [
            Scope(),
            Scope("positions", (0, -3)),
            Scope("after_instruction", marker=(5, 6)),
            Scope("after_instruction"),
            Scope("thinking", marker=(4,), opening=(5,), closing=(6, 7)),
        ]
    ),
    st.floats(-1e6, 1e6),
)
def test_an_artefact_comes_back_bit_for_bit(tmp_path_factory, cells, card, scope, strength):
    vector = SteeringVector(
        {p: torch.tensor(values, dtype=torch.float32) for p, (values, _) in cells.items()},
        {p: norm for p, (_, norm) in cells.items()},
        tiny.provenance(options={"k": [1, None]}, data_name="ü", split={"train": 3}, seed=7),
    )
    path = tmp_path_factory.getbasetemp() / "round.safetensors"
    cell = Cell.of(vector, strength, scope)
    save(path, Artefact(vector, cell, card=card))
    back = load(path)
    assert back.card == card
    assert back.cell == cell
    assert back.steering.points == vector.points
    assert back.steering.stream_norms == vector.stream_norms
    assert back.steering.provenance == vector.provenance
    for point, direction in vector.directions.items():
        assert back.steering.directions[point].view(torch.int32).equal(direction.view(torch.int32))


def test_the_plan_is_that_of_the_cell(tmp_path):
    cell = Cell((HookPoint(1),), 2.0, scope=Scope("after_instruction", marker=(4,)))
    artefact = Artefact(tiny.vector(0, 1, 2), cell)
    (item,) = artefact.plan()
    assert item.steering.points == (HookPoint(1),)
    assert (item.strength, item.operator, item.scope.marker) == (2.0, "add", (4,))
    assert artefact.plan(-1.0)[0].strength == -1.0


def test_a_cell_where_the_steering_was_not_fitted_is_refused():
    with pytest.raises(HookPointError, match=r"layers\.3\.resid_post: fitted at layers\.0-1\.resid_post"):
        Artefact(tiny.vector(0, 1), Cell((HookPoint(1), HookPoint(3))))


def test_a_file_that_an_earlier_version_wrote_is_read_as_it_was_meant():
    """Written by the version before cells: a vector at layers 0 and 1, a gate, and a card with the chosen cell."""
    back = load(Path(__file__).parent / "files" / "before_cells.safetensors")
    assert back.cell == Cell((HookPoint(1),), 2.0, "add", Scope("after_instruction", marker=(4, 5)))
    assert back.steering.points == (HookPoint(0), HookPoint(1))
    assert back.dose == 0.25
    assert back.card == Card({"note": "of version 0.1"})
    assert isinstance(back.gate, SimilarityGate) and back.gate.threshold == 0.5


def test_a_file_from_before_cells_is_read_with_the_cell_on_its_card(tmp_path):
    old = {"hook_point": POINT, "strength": 2.0, "dose": 0.3, "scope": "last", "operator": "ablate", "report": {"n": 1}}
    scope = {"name": "last", "positions": [], "marker": []}
    back = load(_write(tmp_path / "old.safetensors", _head(card=old, scope=scope)))
    assert back.cell == Cell((HookPoint(1),), 2.0, "ablate", Scope("last"))
    assert back.card == Card({"n": 1})


def test_a_file_without_a_card_from_before_cells_is_applied_as_it_is(tmp_path):
    scope = {"name": "positions", "positions": [0, -1], "marker": []}
    back = load(_write(tmp_path / "old.safetensors", _head(scope=scope)))
    assert back.cell == Cell((HookPoint(1),), 1.0, "add", Scope("positions", (0, -1)))
    assert back.card is None


def test_a_reader_from_before_cells_finds_the_cell_on_the_card(tmp_path):
    vector = tiny.vector(0, 1)
    artefact = Artefact(vector, Cell((HookPoint(1),), 2.0, "ablate", Scope("last")), card=CARD)
    save(tmp_path / "a.safetensors", artefact)
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        head = json.loads(file.metadata()["tillerman"])
    told = {"hook_point": POINT, "strength": 2.0, "dose": artefact.dose, "scope": "last", "operator": "ablate"}
    assert head["card"] == {**told, "report": dict(CARD.report), "studies": {}}
    assert head["scope"]["name"] == "last"


def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save(path, Artefact(tiny.vector(0), Cell.of(tiny.vector(0))))
    before = path.read_bytes()

    def breaks(tensors, part, metadata):
        Path(part).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(module, "save_file", breaks)
    with pytest.raises(FileError, match="disk full"):
        save(path, Artefact(tiny.vector(1), Cell.of(tiny.vector(1))))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@given(st.data())
def test_a_truncated_file_is_refused_at_every_length(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    whole = folder / "whole.safetensors"
    if not whole.exists():
        save(whole, Artefact(tiny.vector(0, 1), Cell.of(tiny.vector(0, 1)), card=CARD))
    content = whole.read_bytes()
    cut = folder / "cut.safetensors"
    cut.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ArtefactError, match=r"cut\.safetensors"):
        load(cut)


@pytest.mark.parametrize("length", [1, 7, 8, 9])
def test_a_file_cut_within_its_first_bytes_is_refused(tmp_path, length):
    path = tmp_path / "a.safetensors"
    save(path, Artefact(tiny.vector(0), Cell.of(tiny.vector(0))))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ArtefactError, match="an incomplete or invalid safetensors file"):
        load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ArtefactError, match=r"nothing\.safetensors: no such file"):
        load(tmp_path / "nothing.safetensors")


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"w": torch.ones(2)}, path)
    with pytest.raises(ArtefactError, match="a plain safetensors file, not an artefact of Tillerman's"):
        load(path)
    save_file({"w": torch.ones(2)}, path, metadata={"tillerman": json.dumps({"format": "else"})})
    with pytest.raises(ArtefactError, match="not a Tillerman artefact"):
        load(path)


def test_another_version_is_refused_and_both_versions_named(tmp_path):
    with pytest.raises(ArtefactError, match="artefact version 2, this Tillerman reads version 1"):
        load(_write(tmp_path / "a.safetensors", _head(version=2)))


@pytest.mark.parametrize(
    "changes",
    [
        {"scope": ...},
        {"scope": {"name": "everywhere", "positions": [], "marker": []}},
        {"scope": "all"},
        {"provenance": ...},
        {"provenance": []},
        {"provenance": {"model_id": "x"}},
        {"card": {"hook_point": "1"}},
        {"card": [1]},
        {"stream_norms": {}},
        {"stream_norms": [1]},
        {"stream_norms": {POINT: "much"}},
        {"stream_norms": {POINT: 0.0}},
    ],
)
def test_damaged_metadata_is_an_artefact_error_that_names_the_file(tmp_path, changes):
    with pytest.raises(ArtefactError, match=r"a\.safetensors"):
        load(_write(tmp_path / "a.safetensors", _head(**changes)))


@pytest.mark.parametrize("tensors", [{"layer one": torch.ones(2)}, {POINT: torch.tensor([float("nan")])}])
def test_damaged_tensors_are_an_artefact_error_that_names_the_file(tmp_path, tensors):
    with pytest.raises(ArtefactError, match=r"a\.safetensors"):
        load(_write(tmp_path / "a.safetensors", _head(), tensors))


def test_metadata_that_is_no_json_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({POINT: torch.ones(4)}, path, metadata={"tillerman": "{"})
    with pytest.raises(ArtefactError, match="damaged"):
        load(path)


def test_fields_of_a_newer_writer_are_passed_over(tmp_path):
    vector = tiny.vector(1)
    head = _head(provenance={**vector.provenance.to_json(), "colour": "blue"})
    assert load(_write(tmp_path / "a.safetensors", head)).steering.provenance == vector.provenance


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="does not exist; create it first"):
        save(tmp_path / "no" / "a.safetensors", Artefact(tiny.vector(0), Cell.of(tiny.vector(0))))


def test_a_folder_in_the_files_place_is_an_error_of_ours(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(TillermanError, match="is a folder"):
        save(tmp_path / "a", Artefact(tiny.vector(0), Cell.of(tiny.vector(0))))
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_an_artefact_may_be_read_by_whoever_may_read_other_files(tmp_path):
    plain, path = tmp_path / "plain", tmp_path / "a.safetensors"
    plain.write_text("")
    save(path, Artefact(tiny.vector(0), Cell.of(tiny.vector(0))))
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_replaced_file_is_never_seen_half_written(tmp_path):
    path = tmp_path / "t"
    write_text(path, "old")
    with replacing(path) as part:
        part.write_text("n")
        assert path.read_text() == "old"
        part.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "gate",
    [
        SimilarityGate(torch.tensor([1.0, -2.0]), HookPoint(0, "mlp_out"), 0.1 + 0.2, above=False, read="last"),
        ProbeGate(torch.tensor([0.5, 0.25]), -1.5, HookPoint(1)),
    ],
    ids=["similarity", "probe"],
)
def test_a_gate_comes_back_as_it_was_and_is_in_the_plan(gate, tmp_path):
    save(tmp_path / "v.safetensors", Artefact(tiny.vector(1), Cell.of(tiny.vector(1)), gate))
    again = load(tmp_path / "v.safetensors")
    (item,) = again.plan()
    assert item.gate is again.gate and type(again.gate) is type(gate)
    for name in vars(gate):
        ours, theirs = getattr(gate, name), getattr(again.gate, name)
        assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs
    assert again.steering.points == (HookPoint(1),)


@pytest.mark.parametrize("change", [{"kind": "Door"}, {"point": "nowhere"}, {"threshold": "high"}])
def test_a_damaged_gate_is_an_error(change, tmp_path):
    gate = {"kind": "SimilarityGate", "point": POINT, "read": "mean", "threshold": 0.5, "above": True}
    tensors = {POINT: torch.ones(4), "gate": torch.ones(4)}
    assert load(_write(tmp_path / "good.safetensors", _head(gate=gate), tensors)).gate is not None
    with pytest.raises(ArtefactError, match="damaged"):
        load(_write(tmp_path / "bad.safetensors", _head(gate={**gate, **change}), tensors))
    with pytest.raises(ArtefactError, match="damaged"):
        load(_write(tmp_path / "none.safetensors", _head(gate=gate)))
