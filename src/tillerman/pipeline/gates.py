"""The gate of a run: fitted on labelled prompts once the cell is chosen, judged on prompts that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor

from tillerman.core.errors import DataError, UsageError
from tillerman.core.gates import Gate, SimilarityGate
from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Row
from tillerman.data.duplicates import clean_split
from tillerman.data.examples import Example
from tillerman.data.fields import FALSE_WORDS, TRUE_WORDS
from tillerman.data.loading import LoadedData, load_examples
from tillerman.evaluation.exam import Exam
from tillerman.logs.evaluation import GateFigures, GateTrial
from tillerman.methods.fit import Activations, fit
from tillerman.methods.gates import GateOptions, f1_score, fit_gate
from tillerman.models.capture import capture
from tillerman.models.opened import OpenModel
from tillerman.pipeline.run import Run
from tillerman.statistics.estimates import rate
from tillerman.statistics.values import Rate


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts as the run would ask them, and which of them are to be steered."""

    rows: tuple[Row, ...]
    wanted: Bool[Tensor, " n"]


@dataclass(frozen=True, eq=False)
class GateData:
    """Labelled prompts, the training part for the gate and the test part to judge it."""

    loaded: LoadedData
    train: Prompts
    test: Prompts
    at: tuple[HookPoint, ...] | None  # hook points asked for; None: all that are not too late


def gate_data(run: Run, options: GateOptions) -> GateData:
    """Read and split the gate's prompts. All that can be wrong with them is said here, before any work is done."""
    ensure_prompts(run)
    points = [p for m in run.experiment.methods for p in run.points(m.habits.site)]
    first = min(points, key=lambda point: point.order)
    at = options.points
    late = [point for point in at or () if point.order > first.order]
    if late:
        raise UsageError(
            f"`gate_at` {late[0]}: the search may steer {first} before the gate has read the prompt; choose "
            "an earlier hook point, or later `layers`"
        )
    for point in at or ():
        run.opened.parts.part(point)  # says what is missing
    loaded = _read(options)
    train_share, validation_share, test_share = run.experiment.shares
    # The same borders as the run's: a question that is in both data sets is tested in both or in none.
    shares = (train_share + validation_share, 0.0, test_share)
    split = clean_split(loaded.examples, shares=shares, seed=run.experiment.seed)
    return GateData(loaded, _prompts(run, loaded, split.train), _prompts(run, loaded, split.test), at)


def _read(options: GateOptions) -> LoadedData:
    """The gate's data; an error about its classes names the gate's own option, not that of the run's data."""
    try:
        return load_examples(options.data, positive_label=options.positive)
    except (DataError, UsageError) as error:
        said = str(error).replace("--positive", "--gate-positive").replace("positive_label", "GateOptions.positive")
        error.args = (said,)
        raise


def ensure_prompts(run: Run) -> None:
    if run.kind == "text":
        raise UsageError("a gate reads the prompt, and labelled texts have none; provide questions, or omit the gate")


def fitted_gate(run: Run, data: GateData, steered: Sequence[HookPoint]) -> tuple[SimilarityGate, GateTrial]:
    """The gate, along the difference of both classes' means, and how it does on prompts it has not seen."""
    first = min(steered, key=lambda point: point.order)
    everywhere = (*run.opened.points("resid_post"), HookPoint(0, "resid_pre"))
    points = data.at or tuple(point for point in everywhere if point.order <= first.order)
    with run.watch.stage("gate, labelled prompts", len(data.train.rows) + len(data.test.rows)) as progress:
        seen = capture(run.opened, data.train.rows, points, read="mean", progress=progress)
        on, off = ({p: h[side] for p, h in seen.items()} for side in (data.train.wanted, ~data.train.wanted))
        norms = {p: float(h.norm(dim=-1).mean()) for p, h in seen.items()}
        vector = fit(Activations(on, off, norms, paired=False), "mean_difference", run.provenance("gate"))
        found = fit_gate(vector, seen, data.train.wanted)
        new = capture(run.opened, data.test.rows, (found.gate.point,), read="mean", progress=progress)
    given = found.gate.opens(new[found.gate.point])
    return found.gate, _trial(data, given, found.f1)


def opens(opened: OpenModel, gate: Gate, exam: Exam) -> NDArray[np.bool_]:
    """For which items the gate opens, as it would live: it reads the prompt alone."""
    rows = [Row(written.prompt) for written in exam.written]
    given: NDArray[np.bool_] = gate.opens(capture(opened, rows, (gate.point,), read=gate.read)[gate.point]).numpy()
    return given


def gate_figures(gate: Gate, opened: NDArray[np.bool_], trial: GateTrial | None) -> GateFigures:
    threshold, above = (gate.threshold, gate.above) if isinstance(gate, SimilarityGate) else (-gate.bias, True)
    return GateFigures(str(gate), str(gate.point), threshold, above, _share(opened), trial)


def _trial(data: GateData, given: Bool[Tensor, " n"], f1_train: float) -> GateTrial:
    wanted = data.test.wanted
    return GateTrial(
        data_name=data.loaded.name,
        data_digest=data.loaded.digest,
        n_train=len(data.train.rows),
        n_test=len(data.test.rows),
        f1_train=f1_train,
        f1=f1_score(given, wanted),
        opened_wanted=_share(given[wanted].numpy()),
        opened_others=_share(given[~wanted].numpy()),
    )


def _share(given: NDArray[np.bool_]) -> Rate:
    return rate(given, [""] * len(given))


def _prompts(run: Run, loaded: LoadedData, examples: Sequence[Example]) -> Prompts:
    labelled = [pair for example in examples for pair in _labelled(example)]
    wanted = torch.tensor([label for _, label in labelled], dtype=torch.bool)
    if bool(wanted.all()) or not bool(wanted.any()):
        raise DataError(
            f"{loaded.name}: a share of the gate's prompts has one class only ({int(wanted.sum())} of "
            f"{len(wanted)} to steer); provide more of both"
        )
    return Prompts(tuple(Row(run.writer.encode(run.writer.prompt_text(text))) for text, _ in labelled), wanted)


def _labelled(example: Example) -> list[tuple[str, bool]]:
    """The prompts in an example, and whether each is to be steered."""
    if example.kind == "text":
        return [(text, place == example.answer) for place, text in enumerate(example.options)]
    said = example.options[example.answer].strip().casefold()
    if example.kind != "yes_no" or said not in (*TRUE_WORDS, *FALSE_WORDS):
        raise DataError(
            "the gate's data are prompts of two classes: texts with a label (1 to steer, 0 to leave alone) "
            f"or yes/no questions, not items of kind {example.kind!r}"
        )
    return [(example.question, said in TRUE_WORDS)]
