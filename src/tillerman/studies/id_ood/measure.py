"""Test items asked in other ways, other sources, other behaviours, and the vectors of these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tillerman.core.errors import DataError, FitError, HookPointError
from tillerman.core.plan import Plan
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
from tillerman.logs.study import Trial
from tillerman.pipeline.run import Unwatched
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.vectors import fit_methods
from tillerman.studies.base import Lab
from tillerman.studies.id_ood.options import FREE, HOME, MATRIX, OTHER, REPLY_TOKENS, SOURCE, IdOodOptions

_OTHERS, _MATRIX_ITEMS = 3, 200  # other behaviours, and training items of their vectors
_ROOM, _LEAST_CONTEXT = 24, 32  # tokens left for roles and answer; a context shorter than that is none


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
    asks_prompt = baseline and lab.run.told_writer is not None
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
            lab.opened, exam.written, list(plans.values()), REPLY_TOKENS, store=lab.store, progress=progress
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
        raise DataError(f"{loaded.name}: no item falls into the test share; provide more data")
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
    layers = tuple(sorted({point.layer for point in lab.cell.points}))
    experiment = replace(lab.run.experiment, layers=layers, max_train=_MATRIX_ITEMS, generations=())
    try:
        fitted, _ = fit_methods(set_up(experiment, lab.opened, loaded, Store(None, ""), Unwatched()))
        steering = fitted[experiment.spec].vector.at(lab.cell.points)
    except (FitError, HookPointError, DataError):
        return None
    return lab.plan_of(steering)
