"""Where activations are read is part of the search: all readings in one pass, each vector as of its reading alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import tillerman
from tillerman.core.steerings.vector import SteeringVector
from tillerman.data.loading import LoadedData
from tillerman.pipeline.experiment import DEFAULT_DOSES, WRITTEN_DOSES
from tillerman.pipeline.run import Run, Unwatched
from tillerman.pipeline.search import choose, whole_grid
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.side_effects import make_meter
from tillerman.pipeline.vectors import alike, fit_methods, fit_readings

SMALL = tillerman.Experiment(method="caa", max_train=12, max_validation=6, max_test=6, layers=(2, 4))


@pytest.fixture(scope="module")
def pilot() -> tillerman.OpenModel:
    return tillerman.open_model("pilot")


@pytest.fixture(scope="module")
def letters() -> LoadedData:
    """Answers of several tokens."""
    rows = [
        {"prompt": f"What do you do on day {k}?", "chosen": f"I read {k} books on stars.", "rejected": "I sleep late."}
        for k in range(40)
    ]
    return tillerman.load_examples(rows)


def run_of(pilot: tillerman.OpenModel, data: LoadedData, **options: object) -> Run:
    return set_up(replace(SMALL, **options), pilot, data, tillerman.Store(None, ""), Unwatched())


def test_each_reading_gives_the_vector_that_it_gives_alone(pilot: tillerman.OpenModel, letters: LoadedData) -> None:
    together = fit_readings(run_of(pilot, letters), ("end", "mean", "last", "whole"))
    names = {"end": "caa", **{read: f"caa, read as {read}" for read in ("mean", "last", "whole")}}
    assert list(together.fitted) == list(names.values())
    assert together.readings == {name: ("caa", read) for read, name in names.items() if read != "end"}
    seen = []
    for read, name in names.items():
        (alone,) = fit_methods(run_of(pilot, letters, read=read))[0].values()
        vector = together.fitted[name].vector
        assert vector.provenance.read_positions == alone.vector.provenance.read_positions == read
        for point, direction in alone.vector.directions.items():
            torch.testing.assert_close(vector.directions[point], direction, rtol=1e-4, atol=1e-5)
            assert all(not torch.allclose(direction, other, rtol=1e-2) for other in seen)
        seen.append(alone.vector.directions[alone.vector.points[0]])


def test_a_reading_that_finds_the_same_tokens_is_no_second_vector(pilot: tillerman.OpenModel) -> None:
    science = tillerman.load_examples("sample:interest-in-science", limit=60)
    run = run_of(pilot, science, method=("caa", "pas-full"))
    assert run.readings == ("end", "mean", "last")
    found = list(fit_readings(run, run.readings).fitted)
    lengths = {len(answer) for written in run.train.written for answer in written.answers}
    assert found == ["caa", "pas-full", "caa, read as mean", *(["caa, read as last"] if lengths != {1} else [])]


@pytest.mark.parametrize(
    ("read", "template", "expected"),
    [
        ("auto", "chat", ("end", "mean", "last")),
        ("auto", "none", ("last", "mean")),
        ("usual", "chat", ("end",)),
        ("mean,end", "chat", ("mean", "end")),
        ("last", "chat", ("last",)),
    ],
)
def test_readings_are_those_asked_for_the_usual_one_first(
    pilot: tillerman.OpenModel, letters: LoadedData, read: str, template: str, expected: tuple[str, ...]
) -> None:
    assert run_of(pilot, letters, read=read, template=template).readings == expected


def test_readings_that_cannot_be_are_refused() -> None:
    with pytest.raises(tillerman.UnknownNameError, match="Did you mean 'mean'"):
        tillerman.Experiment(read="end,meen")
    with pytest.raises(tillerman.UsageError, match="auto and usual stand alone"):
        tillerman.Experiment(read="auto,mean")
    with pytest.raises(tillerman.UsageError, match="actadd reads only answers"):
        tillerman.Experiment(read="whole", method="actadd", prompt="Be kind.")


@pytest.mark.slow
def test_the_log_says_which_reading_was_chosen_and_counts_the_cells_of_all(
    pilot: tillerman.OpenModel, letters: LoadedData
) -> None:
    asked = replace(
        SMALL,
        doses=(0.2,),
        neutral="sample:tinystories",
        neutral_tokens=512,
        unrelated_items=4,
        written_prompts=0,
        generations=(),
        null_draws=2,
        shots=0,
        prompt="Talk of stars.",
    )
    log = tillerman.fit(replace(asked, read="mean,end"), pilot, letters).log
    assert {cell.read for cell in log.cells if cell.strength} == {"", "end"}
    assert log.cells_compared == log.of_cells == len(log.cells) == 1 + 2 * 2
    assert log.provenance["read_positions"] in ("mean", "end")


def test_a_search_for_what_is_written_reads_answers_steers_every_token_and_has_doses_of_its_own(
    pilot: tillerman.OpenModel, letters: LoadedData
) -> None:
    scored, written = run_of(pilot, letters), run_of(pilot, letters, objective="written")
    assert (scored.readings, written.readings) == (("end", "mean", "last"), ("mean", "last"))
    assert scored.scope("caa") != written.scope("caa") and str(written.scope("caa")) == "all"
    grid = whole_grid(written, fit_readings(written, written.readings).fitted)
    assert {round(cell.dose, 2) for cell in grid} == {0.0, *WRITTEN_DOSES} != {0.0, *DEFAULT_DOSES}
    asked = run_of(pilot, letters, objective="written", read="end", scope="last")
    assert asked.readings == ("end",) and str(asked.scope("caa")) == "last"
    assert run_of(pilot, letters, objective="written", read="usual").readings == ("end",)


@pytest.mark.slow
def test_a_vector_that_points_where_another_does_is_searched_once_and_said(pilot: tillerman.OpenModel) -> None:
    rows = [
        {"prompt": f"What do you do on day {k}?", "chosen": f"Zq {k} xv brrt.", "rejected": "I sleep late."}
        for k in range(40)
    ]  # the model gets them all wrong
    run = run_of(pilot, tillerman.load_examples(rows), method=("caa", "ipas-wrong"), read="mean", neutral_tokens=256)
    fitted = fit_methods(run)[0]
    assert alike(fitted) == {"ipas-wrong": "caa"}
    turned = {"caa": fitted["caa"], "turned": replace(fitted["caa"], vector=_turned(fitted["caa"].vector))}
    assert alike(turned) == {}
    choice = choose(run, make_meter(run))
    assert {one.candidate.method for one in choice.scored} == {"caa"}
    assert any("ipas-wrong where caa does" in note for note in choice.notes)
    whole = choose(replace(run, experiment=replace(run.experiment, grid="full", doses=(0.1,))), make_meter(run))
    assert {one.candidate.method for one in whole.scored} == {"caa", "ipas-wrong"}
    assert not whole.notes


def _turned(vector: SteeringVector) -> SteeringVector:
    return replace(vector, directions={point: v + v.norm() * _across(v) for point, v in vector.directions.items()})


def _across(v: torch.Tensor) -> torch.Tensor:
    other = torch.ones_like(v) - v * (v.sum() / v.dot(v))
    return 0.2 * other / other.norm()
