"""Figures of logs as objects of matplotlib and altair: the numbers of the log, no more and no fewer."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest

import tillerman
from tillerman.core.errors import UnknownNameError, UsageError
from tillerman.logs.base import Log
from tillerman.reports import plots
from tillerman.reports.figures import figures_of
from tillerman.statistics.values import NO_INTERVAL

from .example_log import example_log
from .examples import comparison_log, score_log, study_log

LOGS = {"evaluation": example_log(), "comparison": comparison_log(), "study": study_log()}
FIGURES = [(kind, name) for kind, log in LOGS.items() for name in figures_of(log)]


@pytest.mark.parametrize(("kind", "name"), FIGURES)
def test_both_libraries_draw_every_figure(kind, name):
    picture = io.BytesIO()
    tillerman.plot(LOGS[kind], name).savefig(picture)
    assert picture.getvalue().startswith(b"\x89PNG")
    made = tillerman.plot(LOGS[kind], name, library="altair").to_dict()
    values = next(data["values"] for data in (made.get("data"), *(one.get("data") for one in made["layer"])) if data)
    marks = [m for line in figures_of(LOGS[kind])[name].lines for m in line.marks if math.isfinite(m.value)]
    assert [(one["label"], one["n"]) for one in values] == [(m.label, m.n) for m in marks]


def test_the_numbers_are_those_of_the_log_in_percent():
    log = LOGS["evaluation"]
    figure = tillerman.plot(log, "conditions")
    (axes,) = figure.axes
    shown = [float(one.lines[0].get_xdata()[0]) for one in axes.containers]
    assert shown == pytest.approx([100 * one.rate.value for one in log.conditions])
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["Unsteered", "Steered"]
    (low, high) = axes.containers[1].lines[2][0].get_segments()[0][:, 0]
    steered = log.condition("steered").rate
    assert (low, high) == pytest.approx((100 * steered.interval.low, 100 * steered.interval.high))


def test_a_figure_goes_on_axes_that_are_given_and_the_first_one_is_the_default():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figure, (left, right) = pyplot.subplots(1, 2)
    pyplot.close(figure)
    assert tillerman.plot(LOGS["evaluation"], "kl", ax=right) is figure
    assert right.lines and not left.lines
    assert tillerman.plot(LOGS["comparison"]).axes[0].get_title().endswith("change of right answers")
    with pytest.raises(UsageError, match="ax is matplotlib's"):
        tillerman.plot(LOGS["evaluation"], library="altair", ax=right)


def test_names_that_mean_something_to_a_library_are_drawn_as_they_are():
    log = replace(example_log(), data_name="$\\frac$ {<b>", method="_hidden")
    tillerman.plot(log).savefig(io.BytesIO())
    assert "$\\frac$ {<b>" in tillerman.plot(log).axes[0].get_title()


def test_what_has_no_interval_is_drawn_without_one_and_what_is_no_number_is_not_drawn():
    log = example_log()
    first, second, *rest = log.conditions
    bare = replace(first, rate=replace(first.rate, interval=NO_INTERVAL))
    broken = replace(second, rate=replace(second.rate, value=math.nan))
    figure = tillerman.plot(replace(log, conditions=(bare, broken, *rest)))
    (axes,) = figure.axes
    assert len(axes.containers) == len(log.conditions) - 1 and not axes.containers[0].has_xerr


def test_what_cannot_be_drawn_is_refused_with_the_choices(monkeypatch):
    log: Log = example_log()
    with pytest.raises(UnknownNameError, match="conditions"):
        tillerman.plot(log, "condition")
    with pytest.raises(UnknownNameError, match="known: altair, matplotlib"):
        tillerman.plot(log, library="plotly")
    with pytest.raises(UsageError, match=r"to_frame\(\) gives its tables"):
        tillerman.plot(score_log())
    with pytest.raises(UsageError, match="nothing that could be plotted"):
        tillerman.plot(replace(study_log(), charts=()))

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(plots, "import_module", absent)
    for library in plots.LIBRARIES:
        with pytest.raises(UsageError, match=r"pip install 'tillerman\[plots\]'"):
            tillerman.plot(log, library=library)
