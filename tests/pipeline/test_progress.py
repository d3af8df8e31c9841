"""Progress reads well in a terminal and in a log file, and stages never fight."""

from __future__ import annotations

import io

import pytest

from tillerman.pipeline.progress import EVERY, FIRST, Lines, ProgressBar, spoken_time


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_log_file_gets_one_line_for_a_short_stage():
    file = io.StringIO()
    with ProgressBar(file).stage("grid, caa", 4) as progress:
        for _ in range(4):
            progress(1)
    assert file.getvalue() == "grid, caa: done, 0.0 s\n"


def test_a_long_stage_says_percent_and_time_left_at_intervals():
    file, clock = io.StringIO(), Clock()
    lines = Lines("grid", 200, file, clock)
    for _ in range(100):
        clock.now += 1
        lines.progress(1)
    lines.close()
    said = file.getvalue().splitlines()
    assert said[0] == f"grid: {FIRST / 2:.0f} %, 5.0 s, about 3 min left"
    assert len(said) == 2 + (100 - FIRST) // EVERY
    assert said[-1] == "grid: done, 2 min"


def test_a_stage_of_unknown_length_says_how_much_is_done():
    file, clock = io.StringIO(), Clock()
    lines = Lines("judge", 0, file, clock)
    clock.now += FIRST
    lines.progress(7)
    assert file.getvalue() == "judge: 7 done, 5.0 s\n"


def test_a_stage_within_a_stage_is_not_shown():
    file = io.StringIO()
    watch = ProgressBar(file)
    with watch.stage("outer", 2), watch.stage("inner", 2) as progress:
        progress(1)
    with watch.stage("next", 1):
        pass
    assert [line.split(":")[0] for line in file.getvalue().splitlines()] == ["outer", "next"]


def test_a_stage_that_fails_is_not_done_and_the_next_is_shown():
    file = io.StringIO()
    watch = ProgressBar(file)
    with pytest.raises(ValueError, match="broken"), watch.stage("first", 2):
        raise ValueError("broken")
    with watch.stage("second", 1):
        pass
    assert file.getvalue() == "second: done, 0.0 s\n"


def test_a_terminal_gets_a_bar_that_is_wiped_when_the_stage_is_done():
    file = Terminal()
    with ProgressBar(file).stage("grid", 4) as progress:
        progress(4)
    shown = file.getvalue()
    assert "grid:   0%|" in shown
    assert "/4 [" in shown
    assert shown.endswith("\r")
    assert "\n" not in shown


def test_the_control_characters_of_a_bar_are_in_no_log_file():
    file = io.StringIO()
    with ProgressBar(file).stage("grid", 4) as progress:
        progress(4)
    assert not set(file.getvalue()) & set("\r\x1b")


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (12.3, "12 s"), (100, "2 min"), (7500, "2 h 5 min")]
)
def test_times_are_said_in_their_own_unit(seconds, said):
    assert spoken_time(seconds) == said
