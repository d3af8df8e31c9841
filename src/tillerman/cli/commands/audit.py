"""``tillerman audit``: steering that was baked into a model's weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tillerman.cli import options as o, values
from tillerman.cli.output import OUT, print_json
from tillerman.core.opening import AS_USUAL, Opening

if TYPE_CHECKING:
    from tillerman.exchange.audit.auditing import WeightAudit


def audit(
    model: Annotated[str, typer.Argument(help="a folder, a GGUF file, or a hub name", metavar="MODEL")],
    base: Annotated[
        str | None, typer.Option(help="the model that it was made of: every difference is then told", metavar="MODEL")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="new folder for what was found, as artefacts to 'eval'")
    ] = None,
    opening: Opening = AS_USUAL,
    as_json: o.Json = False,
) -> None:
    """Find vectors in a model's biases and directions removed from its weights.

    Against --base every weight that differs is told. Without one: biases that other blocks lack, and directions that
    the matrices which write to the stream do not write. It says what it cannot see."""
    from tillerman.core.artefact import save
    from tillerman.core.files import make_folder
    from tillerman.exchange.audit.auditing import found_artefacts, weight_audit

    if out is not None:
        values.new_folder(out)
    if opening.dtype == "auto":
        opening = replace(opening, dtype="float32")  # of whatever the files hold, every number as it is there
    opened = o.ModelChoice(model, opening).open()
    before = None if base is None else o.ModelChoice(base, replace(opening, revision=None)).open()
    found = weight_audit(opened, before)
    files = []
    if out is not None:
        made = list(found_artefacts(found, before or opened))
        if made:
            make_folder(out)
        for name, artefact in made:
            files.append(str(out / f"{name}.safetensors"))
            save(out / f"{name}.safetensors", artefact)
    if as_json:
        print_json({**audit_json(found), "files": files})
        return
    _tell(found)
    for file in files:
        OUT.print(f"written: {file}", highlight=False, markup=False, soft_wrap=True)


def audit_json(found: WeightAudit) -> dict[str, Any]:
    """What was found, without the directions themselves."""
    return {
        "model": found.model,
        "base": found.base,
        "writing_matrices": found.maps,
        "clean": found.clean,
        "added": [
            {
                "bias": one.name,
                "hook_point": None if one.point is None else str(one.point),
                "length": float(one.vector.norm()),
                "dose": dose,
                "sure": one.sure,
                "why": one.why,
            }
            for one, dose in zip(found.added, found.doses, strict=True)
        ],
        "removed": [
            [{"weight": c.name, "amount": c.amount, "share": c.share, "reads": c.reads} for c in one.changes]
            for one in found.removed
        ],
        "rank_one": [{"weight": one.name, "share": one.share} for one in found.rank_one],
        "absent": [
            {"weights": list(one.names), "share": one.share, "least_random": one.least, "uniform": one.uniform}
            for one in found.absent
        ],
        "other": [{"weight": one.name, "change": None if one.shape else one.size} for one in found.other],
        "chat_template_differs": found.template,
    }


def _tell(found: WeightAudit) -> None:
    from tillerman.cli.render import print_table
    from tillerman.reports import auditing as said

    lines = [said.verdict_words(clean=found.clean, maps=found.maps, base=found.base)]
    for number, gone in enumerate(found.removed, start=1):
        names = [one.name for one in gone.changes]
        lines.append(said.removed_words(number, names, *gone.amounts, sum(one.reads for one in gone.changes)))
    if found.rank_one:
        lines.append(said.rank_one_words([one.name for one in found.rank_one]))
    for number, one in enumerate(found.absent, start=1):
        lines += said.absent_words(number, one.names, one.maps, one.share, one.least, uniform=one.uniform)
    changes = [(one.name, one.size) for one in found.other if not one.shape]
    lines += said.other_words(changes, [one.name for one in found.other if one.shape], template=found.template)
    if found.added:
        rows = [
            said.AddedRow(
                one.name, str(one.point) if one.point else None, float(one.vector.norm()), dose, one.sure, one.why
            )
            for one, dose in zip(found.added, found.doses, strict=True)
        ]
        print_table(OUT, said.added_table(rows))
    for line in (*lines, said.blind_words(found.base)):
        OUT.print(line, highlight=False, markup=False, soft_wrap=True)
