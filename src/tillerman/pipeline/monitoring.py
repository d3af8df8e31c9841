"""A monitor from an artefact: its direction, with hook point and threshold from validation items, tested once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.alarms import Alarm
from tillerman.core.artefact import Artefact
from tillerman.core.errors import DataError, UnknownNameError, UsageError
from tillerman.core.hookpoint import HookPoint, named
from tillerman.core.monitors import LEAST, MONITOR_READS, Monitor
from tillerman.core.plan import Plan
from tillerman.core.rows import Row
from tillerman.core.store import Store
from tillerman.data.loading import LoadedData, Source, as_loaded
from tillerman.data.presenting import open_form
from tillerman.evaluation.exam import Exam
from tillerman.logs.monitor import LiveRate, MonitorLog, ReadingTest
from tillerman.models.opened import OpenModel
from tillerman.models.projecting import projections
from tillerman.pipeline.experiment import Experiment
from tillerman.pipeline.monitor_scores import Chosen, Scores, Sides, choose, on_test_items, peaks
from tillerman.pipeline.prompt_search import found_by_fit
from tillerman.pipeline.run import Run, Unwatched, Watch
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.written import asked_by, prompts_of, replies_to
from tillerman.statistics.estimates import rate
from tillerman.steering.generation import Sampling
from tillerman.steering.watching import watched_continuations

_SEEDS = 20_000  # of random directions that no fit uses
_AT_ONCE = 32  # replies that are made side by side


@dataclass(frozen=True)
class MonitorOptions:
    """``read``, ``above`` and ``least`` as of ``core.monitors.Monitor``. ``points``: hook points to choose from; None:
    all where the vector was fitted. ``false_alarms`` is the rate that the threshold is set for, ``prompt`` a system
    prompt that asks for the behaviour (None: that of the fit), ``draws`` the number of random directions."""

    read: str = "mean"
    points: tuple[HookPoint, ...] | None = None
    above: bool = True
    least: int = LEAST
    false_alarms: float = 0.05
    prompt: str | None = None
    draws: int = 8

    def __post_init__(self) -> None:
        if self.read not in MONITOR_READS:
            raise UnknownNameError("reading of a monitor", self.read, MONITOR_READS)
        if not 0 < self.false_alarms < 1:
            raise UsageError(f"a rate of false alarms of {self.false_alarms}: expected a share between 0 and 1")
        if self.least < 1 or self.draws < 2:
            raise UsageError(f"least {self.least}, draws {self.draws}: expected at least 1 and 2")


def calibrate_monitor(
    artefact: Artefact,
    opened: OpenModel,
    data: LoadedData | Source,
    options: MonitorOptions | None = None,
    *,
    store: Store | None = None,
    watch: Watch | None = None,
) -> tuple[Artefact, MonitorLog]:
    """The artefact with a monitor along its own vector, and what was measured (persona vectors: arXiv 2507.21509).

    On the data that the vector was fitted on its training items are left out; of other data all items are used, one
    half to choose, the other to test. Validation items choose the hook point, by the area under the ROC curve of wanted
    answers against unwanted ones and the unsteered model's own replies, and the threshold, on the unwanted side of
    these (``statistics.ranking.alarm_threshold``). An answer's score is the most extreme value that the monitor would
    have read while it grew. Reading ``prompt`` ranks prompts under the behaviour's system prompt against the plain ones
    instead. Test items are looked at once. Random directions get hook point, side and threshold in the same way.

    ``UsageError`` for a vector that is none (its change depends on what the model reads), ``DataError`` for items
    without wanted and unwanted answers.
    """
    started, options, data = time.monotonic(), options or MonitorOptions(), as_loaded(data)
    points, directions = _directions(artefact, options)
    run, told = _run(artefact, opened, data, options, store or Store(None, ""), watch or Unwatched())
    work = _Calibration(run, options, points, directions, told)
    readings, chosen, own = work.readings()
    mine = next(one for one in readings if one.name == options.read)
    least = options.least if options.read == "mean" else 1
    point = HookPoint.parse(mine.hook_point)
    monitor = Monitor(directions[point][0], point, mine.threshold, options.above, options.read, least)
    log = MonitorLog(
        data_name=data.name,
        model_id=opened.id,
        method=artefact.steering.provenance.method,
        reading=options.read,
        above=options.above,
        least=least,
        false_alarms=options.false_alarms,
        vouched=chosen[options.read].vouched,
        validation=len(run.validation.items),
        own=own if options.read != "prompt" else 0,
        limit=run.experiment.written_tokens,
        prompt=told,
        readings=tuple(readings),
        live=work.live(monitor, artefact),
        provenance=run.provenance(artefact.steering.provenance.method).to_json(),
        seconds=time.monotonic() - started,
        notes=_notes(artefact, data),
    )
    return replace(artefact, monitor=replace(monitor, measured=log.to_json())), log


def _notes(artefact: Artefact, data: LoadedData) -> tuple[str, ...]:
    if data.digest == artefact.steering.provenance.data_digest:
        return ("items that the vector was fitted on are left out",)
    return ("other data than the fit's: one half chose, the other one tests; an item of both would count as unseen",)


def _directions(
    artefact: Artefact, options: MonitorOptions
) -> tuple[tuple[HookPoint, ...], dict[HookPoint, Float[Tensor, "k d"]]]:
    """Hook points, those of the artefact's cell first, and at each its direction and the random ones, of length 1."""
    steering = artefact.steering
    if not steering.is_constant:
        raise UsageError(
            f"the artefact is a {type(steering).__name__} ({steering.provenance.method}), whose change depends on what "
            "the model reads, and a monitor projects on one vector; fit one with 'tillerman fit --method caa'"
        )
    wanted = options.points or steering.points
    missing = [point for point in wanted if point not in steering.directions]
    if missing:
        raise UsageError(f"{named(missing)}: the vector was fitted at {named(steering.points)}; choose among these")
    points = tuple(sorted(wanted, key=lambda point: (point not in artefact.cell.points, point)))
    draws = [steering.random_like(_SEEDS + k) for k in range(options.draws)]
    found = {}
    for point in points:
        table = torch.stack([one.directions[point].float() for one in (steering, *draws)])
        found[point] = table / table.norm(dim=1, keepdim=True)
    return points, found


def _run(
    artefact: Artefact, opened: OpenModel, data: LoadedData, options: MonitorOptions, store: Store, watch: Watch
) -> tuple[Run, str]:
    """The run of the artefact's own fit with its validation and test items, and the behaviour's prompt."""
    if any(len(example.options) < 2 for example in data.examples):
        raise DataError(
            f"{data.name}: a monitor is calibrated on wanted and unwanted answers, and these items have none"
        )
    made = artefact.steering.provenance
    e = Experiment.from_json(made.options, "caa")  # of whatever method: nothing is fitted
    found = found_by_fit(artefact)
    said = (options.prompt, e.prompt, "" if found is None else found.taken, *data.described[:1])
    told = next((text for text in said if text), "")
    shares = e.shares if data.digest == made.data_digest else (0.0, 0.5, 0.5)
    e = replace(e, base_lora=False, calibrate=False, max_validation=None, max_test=None, shares=shares)
    run = set_up(replace(e, prompt=told or None), opened, data, store, watch, ("validation", "test"))
    if options.read == "prompt" and (run.kind == "text" or not told):
        why = "labelled texts have no prompt" if run.kind == "text" else "no prompt asks for the behaviour"
        raise UsageError(f"reading prompt: {why}; give questions and a `prompt`, or another reading")
    return run, told if run.kind != "text" else ""


@dataclass(frozen=True, eq=False)
class _Calibration:
    run: Run
    options: MonitorOptions
    points: tuple[HookPoint, ...]
    directions: dict[HookPoint, Float[Tensor, "k d"]]
    told: str

    def readings(self) -> tuple[list[ReadingTest], dict[str, Chosen], int]:
        """Every reading on the test items, what was chosen for it, and how many own replies took part in that."""
        own = self._own_rows()
        chosen_from, tests = self._answers(self.run.validation, own), self._answers(self.run.test, [])
        if self.told:
            chosen_from["prompt"], tests["prompt"] = self._prompts(self.run.validation), self._prompts(self.run.test)
        self._ensure_read(chosen_from)
        found, every = [], {}
        mine = [0 if self.options.above else 1]
        for name in sorted(chosen_from, key=MONITOR_READS.index):
            draws = [choose(chosen_from[name], k, (0, 1), self.options.false_alarms) for k in self._draws]
            every[name] = choose(chosen_from[name], 0, mine, self.options.false_alarms)
            found.append(on_test_items(name, self.points, tests[name], every[name], draws))
        return found, every, len(own)

    @property
    def _draws(self) -> range:
        return range(1, self.options.draws + 1)

    def _ensure_read(self, found: dict[str, Sides]) -> None:
        """A mean that most wanted answers are too short for would watch nothing."""
        short = float(np.isnan(found["mean"].wanted[:, 0, 0, 0]).mean())
        if self.options.read == "mean" and short > 0.5:
            raise UsageError(
                f"{short:.0%} of the wanted answers have fewer than {self.options.least} tokens, so that a mean from "
                "there on never reads them; give `least` 1, or `read` token"
            )

    def _answers(self, exam: Exam, own: Sequence[Row]) -> dict[str, Sides]:
        """Wanted against unwanted answers, and with these the model's own replies."""
        items = [open_form(item) for item in exam.items]
        written = [self.run.writer.write(item) for item in items]
        wanted = [one.row(one.right) for one in written]
        others = [one.row(next(k for k in range(len(one.answers)) if k != one.right)) for one in written]
        scores = self._scores([*wanted, *others, *own], ("mean", "token"))
        return {name: Sides(both[: len(wanted)], both[len(wanted) :]) for name, both in scores.items()}

    def _prompts(self, exam: Exam) -> Sides:
        """Prompts that ask for the behaviour against the plain ones."""
        told = self.run.writer.with_system(self.told)
        prompts = [writer.write(item).prompt for writer in (told, self.run.writer) for item in exam.items]
        scores = self._scores([Row(tokens, len(tokens) - 1) for tokens in prompts], ("prompt",))["prompt"]
        return Sides(scores[: len(exam.items)], scores[len(exam.items) :])

    def _scores(self, rows: Sequence[Row], reads: Sequence[str]) -> dict[str, Scores]:
        shape = len(rows), len(self.points), self.options.draws + 1, 2
        found = {read: np.empty(shape) for read in reads}
        with self.run.watch.stage("projections", len(rows)) as progress:
            for at, projected in projections(self.run.opened, rows, self.directions, progress=progress):
                for k, point in enumerate(self.points):
                    values = projected[point].double().numpy()
                    for read in reads:
                        found[read][at, k] = peaks(values, read, self.options.least)
        return found

    def _own_rows(self) -> list[Row]:
        """What the unsteered model writes to the validation prompts. The last token is not read while it writes."""
        asked = prompts_of(self.run, self.run.validation)
        if not asked.items:
            return []
        (said,) = replies_to(self.run, asked, [()], "validation")
        made = [(one.prompt, reply.tokens[:-1]) for one, reply in zip(asked.written, said, strict=True)]
        return [Row(prompt + tokens, len(prompt)) for prompt, tokens in made if tokens]

    def live(self, monitor: Monitor, artefact: Artefact) -> tuple[LiveRate, ...]:
        """The monitor on the model's own replies to the test prompts: unsteered, prompted and steered."""
        asked, found = prompts_of(self.run, self.run.test), list[LiveRate]()
        if not asked.items:
            return ()
        told = asked_by(asked, self.run.writer.with_system(self.told)) if self.told else None
        conditions: list[tuple[str, Exam | None, Plan]] = [("unsteered", asked, ()), ("prompt", told, ())]
        conditions.append(("steered", None if artefact.abstains else asked, artefact.plan()))
        for name, exam, plan in conditions:
            if exam is not None:
                found.append(self._rate(name, exam, plan, monitor))
        return tuple(found)

    def _rate(self, name: str, exam: Exam, plan: Plan, monitor: Monitor) -> LiveRate:
        run, alarm = self.run, Alarm("live", monitor)
        crossed: list[int | None] = []
        with run.watch.stage(f"replies under the monitor, {name}", len(exam.written)) as progress:
            for start in range(0, len(exam.written), _AT_ONCE):
                prompts = [one.prompt for one in exam.written[start : start + _AT_ONCE]]
                made = watched_continuations(run.opened, prompts, [plan] * len(prompts), Sampling(exam.limit), [alarm])
                crossed += [one.crossings[0].token if one.crossings else None for one in made]
                progress(len(prompts))
        at = [token for token in crossed if token is not None]
        alarms = rate(np.array([token is not None for token in crossed]), [""] * len(crossed))
        return LiveRate(name, alarms, float(median(at)) if at else None)
