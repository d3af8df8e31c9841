"""Where the vector works: items as they were fitted on, the same items asked in other ways, other sources of the
same behaviour, other behaviours (CAE, arXiv 2505.03189, finding 1: reliable only in distribution)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tillerman.core.errors import DataError, FitError, HookPointError
from tillerman.core.plan import Plan
from tillerman.core.steerings.base import joint_strength
from tillerman.core.store import Store
from tillerman.data.duplicates import clean_split
from tillerman.data.loading import SAMPLE_PREFIX, LoadedData, load_examples
from tillerman.data.neutral import load_texts
from tillerman.data.presenting import Item, present
from tillerman.data.prompts import ANSWER_CUE
from tillerman.data.rephrasings import shifts_of
from tillerman.data.samples import SAMPLES
from tillerman.data.writing import Writer
from tillerman.evaluation.replies import replies_under
from tillerman.logs.study import Chart, Judged, Line, Mark, Trial
from tillerman.logs.table import Table
from tillerman.logs.verdict import Verdict
from tillerman.pipeline.run import Unwatched, set_up
from tillerman.pipeline.search import fit_methods
from tillerman.reports import numbers
from tillerman.reports.numbers import percent, points
from tillerman.statistics.estimates import holm
from tillerman.statistics.values import Effect
from tillerman.studies.base import Lab, StudyOptions
from tillerman.studies.trials import (
    cases_of,
    has,
    in_points,
    mark,
    null_effect,
    paired,
    pick,
    rate_of,
    said,
    shown,
    shown_rate,
)

HOME = "as fitted"
FREE = "in its own words"
SOURCE, OTHER, MATRIX = "source: ", "other: ", "vector of "
_REPLY_TOKENS = 24
_HOLDS = 0.05  # Holm-adjusted p
_GOOD = 0.7  # share of the ways of asking in which an effect must stand
_OTHERS, _MATRIX_ITEMS = 3, 200  # other behaviours, and training items of their vectors
_ROOM, _LEAST_CONTEXT = 24, 32  # tokens left for roles and answer; a context shorter than that is none
_NOTES = (
    "p is adjusted by Holm's rule over all cases; the interval is of each case alone.",
    f"'{FREE}': the first answer word of a reply of at most {_REPLY_TOKENS} tokens; a reply without one is wrong.",
)


@dataclass(frozen=True)
class IdOodOptions(StudyOptions):
    """``sources``: other data on the same behaviour. ``others``: data on other behaviours; None takes embedded
    samples of the same kind, an empty tuple none. ``matrix``: vectors of these too, by the same method."""

    sources: tuple[str, ...] = ()
    others: tuple[str, ...] | None = None
    matrix: bool = True
    context_tokens: int = 256
    draws: int = 4  # random directions


def measure(lab: Lab, options: IdOodOptions) -> Iterator[Trial]:
    """Every case under: unsteered, steered, the prompt baseline, random directions of equal norm."""
    run, items = lab.run, lab.exam.items
    yield from _asked(lab, HOME, items, options.draws)
    for shift in shifts_of(run.kind, chat=run.writer.template == "chat", filler=_filler(lab, options)):
        yield from _asked(lab, shift.name, shift.items(items), options.draws, writer=shift.writer(run.writer))
    if run.kind == "yes_no":
        yield from _in_own_words(lab)
    for name in options.sources:
        loaded = load_examples(name)
        yield from _asked(lab, SOURCE + loaded.name, _unseen(lab, loaded), options.draws)
    others = [load_examples(name) for name in _others(lab, options)]
    for loaded in others:
        yield from _asked(lab, OTHER + loaded.name, _unseen(lab, loaded), options.draws, baseline=False)
    if options.matrix and others:
        yield from _matrix(lab, others)


def _asked(
    lab: Lab, case: str, items: Sequence[Item], draws: int, *, writer: Writer | None = None, baseline: bool = True
) -> Iterator[Trial]:
    writer = writer or lab.run.writer
    exam = lab.exam_of(items, writer)
    randoms = {f"null:random {k}": plan for k, plan in enumerate(lab.random_plans(draws), start=1)}
    plans: dict[str, Plan] = {"unsteered": (), "steered": lab.plan(), **randoms}
    asks_prompt = baseline and lab.run.kind != "text"  # a text has no question that a prompt could precede
    with lab.stage(case, (len(plans) + asks_prompt) * len(items)) as progress:
        yield from lab.trials(case, exam, plans, progress=progress)
        if asks_prompt:
            told = lab.exam_of(items, writer.with_system(lab.run.told))
            yield from lab.trials(case, told, {"prompt": ()}, progress=progress)


def _in_own_words(lab: Lab) -> Iterator[Trial]:
    """A free reply instead of the likeliest answer token: the first answer word in it counts, none is wrong."""
    exam = lab.exam
    plans: dict[str, Plan] = {"unsteered": (), "steered": lab.plan()}
    with lab.stage(FREE, len(plans) * len(exam.items)) as progress:
        said_under = replies_under(
            lab.opened, exam.written, list(plans.values()), _REPLY_TOKENS, kept=(lab.store, FREE), progress=progress
        )
    for condition, replies in zip(plans, said_under, strict=True):
        texts = tuple(reply.answer or "" for reply in replies)
        found = [_first_answer(text, item.answers) == item.right for text, item in zip(texts, exam.items, strict=True)]
        ids = tuple(item.example.id for item in exam.items)
        yield Trial(
            FREE, condition, ids, tuple(map(float, found)), tuple(exam.groups), texts, scorer="first answer word"
        )


def _first_answer(text: str, answers: Sequence[str]) -> int:
    """Which answer is said first, as a word of its own; -1 for none."""
    words = [word.strip(".,!?;:\"'()").lower() for word in text.replace(ANSWER_CUE, " ").split()]
    places = {words.index(a.lower()): k for k, a in enumerate(answers) if a.lower() in words}
    return places[min(places)] if places else -1


def _filler(lab: Lab, options: IdOodOptions) -> str:
    """Neutral text of ``context_tokens``, or as much as the model's context has room for; whole words."""
    longest = max(len(written.prompt) for written in lab.exam.written)
    room = options.context_tokens if lab.opened.context is None else lab.opened.context - longest - _ROOM
    count = min(options.context_tokens, room)
    if count < _LEAST_CONTEXT:
        return ""
    text = load_texts(lab.run.experiment.neutral)[0]
    ids = lab.opened.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"][:count]
    return str(lab.opened.tokenizer.decode(ids)).rpartition(" ")[0].strip()


def _others(lab: Lab, options: IdOodOptions) -> tuple[str, ...]:
    if options.others is not None:
        return options.others
    mine = [s.name for s in SAMPLES.values() if s.kind == lab.run.kind and s.name != lab.run.data.name]
    return tuple(SAMPLE_PREFIX + name for name in mine[:_OTHERS])


def _unseen(lab: Lab, loaded: LoadedData) -> tuple[Item, ...]:
    """Test items of other data, by the artefact's own split."""
    e = lab.run.experiment
    share = clean_split(loaded.examples, e.shares, e.seed, sizes=(None, None, lab.options.limit)).test
    if not share:
        raise DataError(f"{loaded.name}: no item falls into the test share; give more data")
    return present(share, e.seed, keep_order=e.keep_order)


def _matrix(lab: Lab, others: Sequence[LoadedData]) -> Iterator[Trial]:
    """Vectors of the other behaviours, made by the same method, at the artefact's hook points and dose, on the
    artefact's test items and on their own."""
    for loaded in others:
        plan = _plan_for(lab, loaded)
        if plan is None:
            continue
        case = MATRIX + loaded.name
        for name, items in ((HOME, lab.exam.items), (loaded.name, _unseen(lab, loaded))):
            with lab.stage(f"{case} on {name}", 2 * len(items)) as progress:
                plans = {"unsteered": (), "steered": plan}
                yield from lab.trials(f"{case} on {name}", lab.exam_of(items, lab.run.writer), plans, progress=progress)


def _plan_for(lab: Lab, loaded: LoadedData) -> Plan | None:
    """None where the method cannot be fitted on these data, or gives no vector at the artefact's hook points."""
    item = lab.intervention
    layers = tuple(sorted({point.layer for point in item.steering.points}))
    experiment = replace(lab.run.experiment, layers=layers, max_train=_MATRIX_ITEMS, generations=())
    try:
        fitted, _ = fit_methods(set_up(experiment, lab.opened, loaded, Store(None, ""), Unwatched()))
        steering = fitted[experiment.method].vector.at(item.steering.points)
    except (FitError, HookPointError, DataError):
        return None
    return lab.with_steering(steering, joint_strength(steering, lab.chosen.dose(item.strength)))


def judge(trials: Sequence[Trial], options: IdOodOptions) -> Judged:
    cases = [case for case in cases_of(trials) if not case.startswith(MATRIX)]
    effects = {case: paired(trials, case) for case in cases}
    adjusted = dict(zip(cases, holm([found.p_value for found in effects.values()]), strict=True))
    same = [case for case in cases if not case.startswith(OTHER)]
    tables = [_shifts_table(trials, same, effects, adjusted)]
    charts = [_bars("Effect of the vector, asked in other ways", trials, same, effects)]
    away = [case for case in cases if case.startswith(OTHER)]
    if away:
        tables.append(
            _shifts_table(trials, away, effects, adjusted, title="Other behaviours: what the vector does there")
        )
        charts.append(_bars("Effect of the same vector on other behaviours", trials, away, effects))
    matrix = [case for case in cases_of(trials) if case.startswith(MATRIX)]
    if matrix:
        tables.append(_matrix_table(trials, matrix, effects))
    return Judged(_verdict(trials, same, away, effects, adjusted), tuple(tables), tuple(charts), _NOTES)


def _holds(found: Effect, adjusted: float) -> bool:
    return found.value > 0 and adjusted < _HOLDS


def _verdict(
    trials: Sequence[Trial],
    same: Sequence[str],
    away: Sequence[str],
    effects: Mapping[str, Effect],
    adjusted: Mapping[str, float],
) -> Verdict:
    home, shifts = effects[HOME], [case for case in same if case != HOME]
    random = null_effect(trials, HOME)
    if not _holds(home, adjusted[HOME]):
        return Verdict("bad", f"The vector does nothing to be generalised: as fitted its effect is {said(home)}.")
    if random is not None and random[1].high >= home.interval.low and random[0] > home.value / 2:
        words = f"Random directions of the same norm do as much: {in_points(*random)} pp beside {said(home)}."
        return Verdict("bad", words)
    kept = [case for case in shifts if _holds(effects[case], adjusted[case])]
    words = f"As fitted the effect is {said(home)}."
    if not shifts:
        return Verdict("unclear", f"{words} These items cannot be asked in another way; give other sources.")
    words += f" It stands in {len(kept)} of {len(shifts)} other ways of asking (Holm p < {_HOLDS})"
    lost = [case for case in shifts if case not in kept]
    mean = float(np.mean([effects[case].value for case in shifts])) / home.value
    words += f"; on average {percent(mean, 0)} of it is left."
    if lost:
        words += " Not found: " + ", ".join(f"{case} ({points(effects[case].value)})" for case in lost) + "."
    moved = [case for case in away if adjusted[case] < _HOLDS]
    specific = not any(abs(effects[case].value) >= home.value / 2 for case in moved)
    if moved:
        named = ", ".join(f"{case.removeprefix(OTHER)} ({points(effects[case].value)})" for case in moved)
        words += f" It also moves other behaviours: {named}" + (
            "." if specific else "; it is not specific to this one."
        )
    good = specific and len(kept) / len(shifts) >= _GOOD
    return Verdict("good" if good else "mixed" if kept else "bad", words)


def _shifts_table(
    trials: Sequence[Trial],
    cases: Sequence[str],
    effects: Mapping[str, Effect],
    adjusted: Mapping[str, float],
    title: str = "The same behaviour, asked in other ways",
) -> Table:
    rows = []
    for case in cases:
        random = null_effect(trials, case)
        rows.append(
            (
                case.removeprefix(OTHER),
                str(effects[case].n),
                shown_rate(rate_of(pick(trials, case, "unsteered"))),
                shown_rate(rate_of(pick(trials, case, "steered"))),
                shown(effects[case]),
                numbers.p_value(adjusted[case]).removeprefix("p ").removeprefix("= "),
                shown(paired(trials, case, "prompt")) if has(trials, case, "prompt") else "",
                "" if random is None else in_points(*random),
            )
        )
    head = (
        "",
        "n",
        "unsteered, % (95 %)",
        "steered, % (95 %)",
        "effect, pp (95 %)",
        "p (Holm)",
        "prompt, pp (95 %)",
        "random null, pp (95 %)",
    )
    strong = tuple(i for i, case in enumerate(cases) if _holds(effects[case], adjusted[case]))
    return Table(title, head, tuple(rows), strong)


def _matrix_table(trials: Sequence[Trial], cases: Sequence[str], effects: Mapping[str, Effect]) -> Table:
    """Rows: vectors. Columns: the behaviours they were tested on."""
    names = list(dict.fromkeys(case.removeprefix(MATRIX).rpartition(" on ")[0] for case in cases))
    rows = [("this vector", shown(effects[HOME]), *(shown(effects[OTHER + name]) for name in names))]
    for name in names:
        cells = ["" for _ in names]
        cells[names.index(name)] = shown(paired(trials, f"{MATRIX}{name} on {name}"))
        rows.append((name, shown(paired(trials, f"{MATRIX}{name} on {HOME}")), *cells))
    title = "Vectors of other behaviours, same method, hook points and dose: effect in pp (95 %)"
    return Table(title, ("vector", "this behaviour", *names), tuple(rows))


def _bars(title: str, trials: Sequence[Trial], cases: Sequence[str], effects: Mapping[str, Effect]) -> Chart:
    lines = [Line("steered", tuple(mark(case.removeprefix(OTHER), effects[case]) for case in cases))]
    told = [mark(case, paired(trials, case, "prompt")) for case in cases if has(trials, case, "prompt")]
    if told:
        lines.append(Line("prompt", tuple(told), "prompt"))
    nulls = [
        Mark(case.removeprefix(OTHER), found[0], found[1], effects[case].n)
        for case in cases
        if (found := null_effect(trials, case)) is not None
    ]
    if nulls:
        lines.append(Line("random direction", tuple(nulls), "null"))
    return Chart(title, "bars", "pp", tuple(lines), axis="effect against unsteered")
