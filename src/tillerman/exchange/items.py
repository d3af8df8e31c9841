"""The items that an export or an import is measured on: those of the artefact's own data, or given ones."""

from __future__ import annotations

from tillerman.core.artefact import Artefact
from tillerman.core.errors import DataError, UsageError
from tillerman.core.provenance import Provenance
from tillerman.data.loading import LoadedData, load_examples
from tillerman.data.presenting import as_choices, present
from tillerman.data.samples import SAMPLES
from tillerman.data.writing import make_writer
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.limits import fitting
from tillerman.models.opened import OpenModel

LIMIT = 32


def own_data(artefact: Artefact) -> LoadedData:
    """The data that the artefact was fitted on, where they are an embedded sample; others are found by their users.

    ``UsageError`` asks for them."""
    made = artefact.steering.provenance
    if made.data_name in SAMPLES:
        data = load_examples(f"sample:{made.data_name}")
        if data.digest == made.data_digest:
            return data
        raise UsageError(
            f"the artefact was fitted on a part of the sample {made.data_name}, or on an older one; give items to "
            f"measure on: --data sample:{made.data_name}"
        )
    raise UsageError(
        f"the artefact's own items ({made.data_name or 'unnamed'}) are not embedded here; give them: --data FILE"
    )


def exam_of(opened: OpenModel, made: Provenance, data: LoadedData, limit: int = LIMIT) -> Exam:
    """At most ``limit`` items, those with the smallest hash, written as in the artefact's fit (of a vector without
    one: by the model's chat template, where it has one). ``DataError`` where none is short enough for the model."""
    fitted = made.options
    examples = as_choices(data.examples) if fitted.get("as_choice") else data.examples
    items = present(examples[:limit], made.seed, keep_order=bool(fitted.get("keep_order")))
    template = made.template if made.data_digest else "auto"
    writer = make_writer(opened.tokenizer, template, fitted.get("template_args") or {}).with_system(
        fitted.get("system")
    )
    exam = fitting(Exam.of(opened, items, writer), len(writer.closing_turns().closing))
    if len(exam.items) < 2:
        raise DataError(f"{data.name}: fewer than two items that {opened.id} can read; give others")
    return exam


def turn_end(opened: OpenModel) -> tuple[int, ...]:
    """The tokens that close an answer in the chat template; none without one."""
    return make_writer(opened.tokenizer, "auto", {}).closing_turns().closing
