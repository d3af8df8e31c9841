"""The start of a run: items split, shown, written, and held against what the model reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tillerman.core.errors import FitError, UsageError
from tillerman.core.store import Store
from tillerman.data.loading import LoadedData, Source, as_loaded
from tillerman.data.presenting import Item, present
from tillerman.data.splits import SPLITS
from tillerman.data.writing import Writer, make_writer
from tillerman.evaluation.calibration import answer_offsets
from tillerman.evaluation.exam import Exam, fitting_shots
from tillerman.evaluation.limits import ensure_fits, ensure_prompt_fits, fitting
from tillerman.models.opened import OpenModel
from tillerman.models.prompt_cache import PromptCache
from tillerman.pipeline.experiment import Experiment
from tillerman.pipeline.panel import panel_of
from tillerman.pipeline.prompt_search import Judge
from tillerman.pipeline.run import Run, Watch
from tillerman.pipeline.shares import split_items, without_long


def set_up(
    experiment: Experiment,
    opened: OpenModel,
    data: LoadedData | Source,
    store: Store,
    watch: Watch,
    needed: Sequence[str] = SPLITS,
) -> Run:
    """Split, show and write the items. ``needed``: the shares that may not be empty."""
    e, data = experiment, as_loaded(data)
    split = split_items(e, data, needed)
    plain = make_writer(opened.tokenizer, e.template, e.template_args)
    writer = replace(plain, cue=e.cue).with_system(e.system)
    shares = (split.train, split.validation, split.test)
    shown = [present(share, e.seed, keep_order=e.keep_order) for share in shares]
    exams = [Exam.of(opened, items, writer, e.answer_tokens) for items in shown]
    closing = len(writer.closing_turns().closing)
    if e.skip_long:
        exams = [fitting(exam, closing) for exam in exams]
        split = without_long(split, data, needed, *([item.example for item in exam.items] for exam in exams))
    ensure_fits(dict(zip(SPLITS, exams, strict=True)), closing)
    if e.prompt and not any(item.example.kind == "text" for exam in exams for item in exam.items):
        ensure_prompt_fits(e.prompt, exams, writer)
    run = Run(e, opened, data, split, writer, exams[0], exams[1], exams[2], store, watch, _judge(e))
    if e.base_lora:
        run = run.of(run.tuned)
    elif e.base_shots:
        run = _after_exemplars(run)
    return _asking_again(_calibrated(run) if e.calibrate else run)


def _judge(e: Experiment) -> Callable[[Run], Judge] | None:
    """A search by replies judges its prompt baseline by replies too; else a prompt that turns no reply, but every
    comparison of two answers, would stand for what words can do."""
    return (lambda run: panel_of(run).under) if e.objective == "written" else None


def _asking_again(run: Run) -> Run:
    """Validation items are asked in every round of a search, and by the nulls' searches."""
    return replace(run, validation=replace(run.validation, kept=PromptCache()))


def _calibrated(run: Run) -> Run:
    """The same shares, answered after the bias of answers has been subtracted, wherever they are asked."""
    offsets = run.experiment.calibration
    if offsets is None:
        with run.watch.stage("bias of answers, validation", len(run.validation.items)) as progress:
            offsets = answer_offsets(run.validation, run.store, progress)
    return _rewritten(run, run.writer.calibrated(offsets), run.train.items)


def _rewritten(run: Run, writer: Writer, train: Sequence[Item]) -> Run:
    """The same shares by another writer; of the training share these items."""
    shares = (train, run.validation.items, run.test.items)
    exams = [Exam.of(run.opened, items, writer, run.experiment.answer_tokens) for items in shares]
    return replace(run, writer=writer, train=exams[0], validation=exams[1], test=exams[2])


def _after_exemplars(run: Run) -> Run:
    """The same shares, every question asked after exemplars. These leave the training share: what the prompt
    already tells the model teaches a vector nothing (PAS, arXiv 2509.22739, section 4.3)."""
    e, shares = run.experiment, (run.train, run.validation, run.test)
    if run.kind == "text":
        raise UsageError("`base_shots`: exemplars are answered questions, and labelled texts have no questions")
    everything = replace(
        run.test,
        items=tuple(item for share in shares for item in share.items),
        written=tuple(written for share in shares for written in share.written),
    )
    pool = run.wrong(e.base_shots)
    found = fitting_shots(everything, run.writer, pool, e.base_shots, run.opened.context)
    if found is None:
        why = "none fits the model's context" if pool else "there is none"
        raise FitError(f"`base_shots` {e.base_shots}: exemplars are training items answered wrong, and {why}")
    writer, count = found
    shown = {item.example.id for item in pool[:count]}
    rest = tuple(item for item in run.train.items if item.example.id not in shown)
    if not rest:
        raise FitError(
            f"`base_shots` {e.base_shots}: no training item is left to fit on; provide more data, or ask for fewer"
        )
    return _rewritten(run, writer, rest)
