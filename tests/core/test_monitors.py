"""Monitors and alarms as values: what they are, what they refuse, and that a file gives them back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tillerman.core.alarms import Alarm
from tillerman.core.artefact import Artefact, load, save
from tillerman.core.cell import Cell
from tillerman.core.errors import ArtefactError, FitError, UnknownNameError, UsageError
from tillerman.core.gates import SimilarityGate
from tillerman.core.hookpoint import HookPoint
from tillerman.core.monitors import Monitor
from tillerman.core.plan import Intervention, Scope

from .. import tiny
from ..core.test_kinds import EXAMPLES

POINT = HookPoint(1)


def monitor(**changes: object) -> Monitor:
    direction = torch.randn(tiny.WIDTH, generator=torch.Generator().manual_seed(0))
    return replace(Monitor(direction, POINT, 1.5, least=4), **changes)


def test_it_projects_on_the_direction_whatever_its_length() -> None:
    h = torch.randn(2, 3, tiny.WIDTH, generator=torch.Generator().manual_seed(1))
    one = monitor()
    longer = monitor(direction=7 * one.direction)
    assert float(one.direction.norm()) == pytest.approx(1, abs=1e-6)
    assert torch.allclose(longer.projections(h), one.projections(h), atol=1e-5)
    assert torch.allclose(one.projections(h), torch.einsum("bsd,d->bs", h, one.direction), atol=1e-5)


@pytest.mark.parametrize("above", [True, False])
def test_it_is_crossed_beyond_the_threshold_on_its_side_and_by_what_is_no_number(above: bool) -> None:
    one = monitor(above=above)
    assert [one.crosses(value) for value in (1.4, 1.5, 1.6)] == (
        [False, False, True] if above else [True, False, False]
    )
    assert one.crosses(float("nan"))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"direction": torch.zeros(4)}, FitError, "direction of length 0"),
        ({"direction": torch.full((4,), torch.nan)}, FitError, "expected a finite vector"),
        ({"threshold": float("inf")}, UsageError, "threshold inf: expected a finite number"),
        ({"read": "first"}, UnknownNameError, "known: mean, prompt, token"),
        ({"least": 0}, UsageError, "least 0"),
        ({"read": "token"}, UsageError, "least 4: a mean is taken over"),
    ],
)
def test_what_is_none_is_refused_with_what_is_expected(changes: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        monitor(**changes)


def test_a_file_gives_it_back_whole_beside_gate_and_cell(tmp_path) -> None:
    vector = tiny.vector(POINT)
    gate = SimilarityGate(vector.directions[POINT], POINT, 0.1)
    one = monitor(above=False, measured={"some": [1, 2.5, None]})
    save(tmp_path / "one.safetensors", Artefact(vector, Cell.of(vector), gate, monitor=one))
    back = load(tmp_path / "one.safetensors")
    assert back.monitor is not None and back.gate is not None and torch.equal(back.gate.direction, gate.direction)
    assert torch.equal(back.monitor.direction, one.direction)
    told = ("point", "threshold", "above", "read", "least", "measured")
    assert [getattr(back.monitor, name) for name in told] == [getattr(one, name) for name in told]
    save(tmp_path / "none.safetensors", replace(back, monitor=None))
    assert load(tmp_path / "none.safetensors").monitor is None


def test_a_monitor_without_its_direction_is_a_damaged_file(tmp_path, monkeypatch) -> None:
    import tillerman.core.artefact as module

    monkeypatch.setattr(module, "MONITOR", "elsewhere")
    vector = tiny.vector(POINT)
    save(tmp_path / "one.safetensors", Artefact(vector, Cell.of(vector), monitor=monitor()))
    monkeypatch.undo()
    with pytest.raises(ArtefactError, match="a monitor without its tensor, or the other way round"):
        load(tmp_path / "one.safetensors")


def test_an_alarm_says_what_its_action_needs() -> None:
    plan = (Intervention(tiny.vector(2)),)
    for action, given, words in (
        ("shout", (), "known: abort, steer, warn"),
        ("steer", (), "say which plan"),
        ("warn", plan, "only 'steer' switches"),
    ):
        with pytest.raises((UsageError, UnknownNameError), match=words):
            Alarm("mine", monitor(), action, given)
    gated = replace(plan[0], gate=SimilarityGate(torch.ones(tiny.WIDTH), POINT, 0.1))
    with pytest.raises(UsageError, match="its plan has a gate"):
        Alarm("mine", monitor(), "steer", (gated,))
    assert Alarm("mine", monitor(), "steer", plan).switched[0].steering is plan[0].steering


@pytest.mark.parametrize("scope", [Scope("prompt"), Scope("last"), Scope("positions", (0,))])
def test_a_monitor_switches_nothing_on_that_means_the_prompt(scope: Scope) -> None:
    with pytest.raises(UsageError, match="means tokens of the prompt"):
        Intervention(tiny.vector(2), scope=scope, gate=monitor())


@pytest.mark.parametrize("kind", ["SequenceSteering", "LookaheadSteering"])
def test_a_monitor_switches_nothing_on_that_has_to_begin_with_the_prompt(kind: str) -> None:
    with pytest.raises(UsageError, match=f"a {kind} works from the first token of a prompt on"):
        Intervention(EXAMPLES[kind](), gate=monitor())


def test_a_monitor_may_read_after_what_it_switches_on() -> None:
    late = monitor(point=HookPoint(2))
    assert Intervention(tiny.vector(0), gate=late).gate is late
