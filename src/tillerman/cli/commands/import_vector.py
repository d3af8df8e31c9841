"""``tillerman import``: a vector of another tool as an artefact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tillerman.cli import names, options as o, values
from tillerman.cli.output import ERR, OUT, load, print_json
from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.opening import AS_USUAL, Opening

if TYPE_CHECKING:
    from tillerman.core.artefact import Artefact
    from tillerman.exchange.found import Found
    from tillerman.exchange.placing import Placing
    from tillerman.exchange.semantic import FileReading
    from tillerman.models.opened import OpenModel

SIGNS = ("as-is", "flipped")


def import_vector(
    file: Annotated[
        Path,
        typer.Argument(
            help="a control vector (repeng, llama.cpp, EasySteer), .pt (steering-vectors, CAA, persona-vectors, "
            "EasyEdit, ITI), .svec (CAST), vllm-lens, safetensors, npy, npz or JSON",
            metavar="FILE",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="file for the artefact (safetensors)")],
    model: o.Model = "pilot",
    convention: Annotated[
        str | None, typer.Option(help=f"how the file counts layers: {', '.join(names.CONVENTIONS)}")
    ] = None,
    site: Annotated[str, typer.Option(help="where inside the block, for convention output")] = "resid_post",
    at: Annotated[
        str | None, typer.Option("--at", help="hook point of a single direction, e.g. layers.12.resid_post")
    ] = None,
    layers: Annotated[str | None, typer.Option(help="take these numbers of the file only, e.g. 10-20")] = None,
    strength: Annotated[float, typer.Option(help="multiple of the file's directions")] = 1.0,
    sign: Annotated[
        str | None, typer.Option(help=f"{' or '.join(SIGNS)}; as-is, or what --data finds, if not given")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="labelled items: finds the convention and the sign that move the right answers", metavar="DATA"
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=2, help="use at most this many of the items")] = 64,
    opening: Opening = AS_USUAL,
    as_json: o.Json = False,
) -> None:
    """Read another tool's vector.

    Numbers are placed as --convention or --at says, or as --data finds, never by a guess. The artefact has no card
    until 'eval' tests it. A file that 'export' wrote comes back as it was."""
    values.writable(out)
    if sign is not None and sign not in SIGNS:
        raise UsageError(f"--sign {sign}: expected {' or '.join(SIGNS)}")
    points = values.points_of(at)
    if points is not None and len(points) != 1:
        raise UsageError(f"--at {at}: expected one hook point, e.g. layers.12.resid_post")
    place = None if points is None else points[0]
    asked = Asked(convention, site, place, values.layers_of(layers), strength, sign, data, limit)
    made, notes = run_import(file, out, o.ModelChoice(model, opening), asked)
    if as_json:
        from tillerman.cli.commands.show import artefact_json

        print_json({**artefact_json(made), "notes": list(notes)})
        return
    from tillerman.cli.commands.show import print_artefact

    for note in notes:
        ERR.print(note, highlight=False, markup=False, soft_wrap=True)
    print_artefact(out, made, OUT)


@dataclass(frozen=True)
class Asked:
    """What was said of the file on the command line."""

    convention: str | None
    site: str
    at: HookPoint | None
    numbers: tuple[int, ...] | None
    strength: float
    sign: str | None
    data: str | None
    limit: int

    @property
    def placing(self) -> Placing:
        from tillerman.exchange.placing import Placing

        return Placing(self.convention, self.site, self.at, self.numbers)


def run_import(file: Path, out: Path, model: o.ModelChoice, asked: Asked) -> tuple[Artefact, tuple[str, ...]]:
    """The artefact, written to ``out``, and what is to be said of it."""
    from tillerman.core.artefact import save
    from tillerman.exchange.importing import imported, whole
    from tillerman.exchange.placing import placed
    from tillerman.exchange.reading import read_file

    placing = asked.placing
    found = read_file(file)
    made = whole(found)
    if made is not None:
        save(out, made)
        return made, (f"{file}: an export of Tillerman's; the artefact that it carries is as it was",)
    notes: tuple[str, ...] = ()
    if found.whole is not None:
        notes = (f"{file}: an export of Tillerman's whose directions were changed since: read as any other file",)
    if asked.data is None:
        directions = placed(found, placing)  # what is missing is told before the model is opened
        convention, sign, opened = asked.convention, asked.sign or "as-is", model.open()
    else:
        opened = model.open()
        reading = _measured(opened, found, asked)
        directions, convention = reading.directions, reading.convention
        sign = "as-is" if reading.sign > 0 else "flipped"
        notes = (*notes, f"measured: {reading.words}")
    said = {"convention": convention, "sign": sign, "measured_on": asked.data}
    strength = -asked.strength if sign == "flipped" else asked.strength
    made = imported(opened, directions, found, file, strength, said)
    save(out, made)
    return made, notes


def _measured(opened: OpenModel, found: Found, asked: Asked) -> FileReading:
    """The reading that the items single out; the table of all is printed first."""
    from tillerman.cli.render import print_table
    from tillerman.exchange.items import exam_of, turn_end
    from tillerman.exchange.semantic import best, readings
    from tillerman.reports.exchange import readings_table

    loaded = load(str(asked.data), None, None, None, None, False)
    provenance = opened.provenance("imported", name=loaded.name, site=asked.site)
    exam = exam_of(opened, provenance, loaded, asked.limit)
    signs = {None: (1.0, -1.0), "as-is": (1.0,), "flipped": (-1.0,)}[asked.sign]
    tried = readings(exam, found, asked.placing, signs, closing=turn_end(opened))
    rows = [(one.words, one.effect, sum(one.closeness) / 2) for one in tried]
    print_table(ERR, readings_table(len(exam.items), rows))
    return best(tried)
