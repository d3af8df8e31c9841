"""What an artefact is, without what was measured: where it comes from, its norms, what it makes of a prompt. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tillerman.core.provenance import Provenance
from tillerman.logs.table import Table
from tillerman.reports.numbers import compact, decimal


def provenance_words(p: Provenance) -> tuple[str, ...]:
    return (
        f"{p.method} of {p.data_name}, fitted on {p.model_id} ({p.model_fingerprint}), {p.date}",
        f"width {p.width}, {p.layers} layers; read at {p.read_site} ({p.read_positions}), added at {p.site}; "
        f"template {p.template} ({p.template_hash}); seed {p.seed}",
        *((f"from {p.origin}",) if p.origin else ()),
    )


def norms_table(norms: Iterable[tuple[str, float, float, float]]) -> Table:
    """From hook point, norm of the vector, mean norm of the activations, and dose of strength 1."""
    rows = tuple((point, decimal(norm, 3), decimal(stream, 3), decimal(dose, 3)) for point, norm, stream, dose in norms)
    return Table("Vector", ("hook point", "norm", "mean activation norm", "dose of strength 1"), rows)


def generations_table(prompt: str, where: str | None, continuations: Sequence[tuple[float, float, str]]) -> Table:
    """From strength, dose and text of each continuation; ``where`` None: none of them is steered."""
    rows = tuple((compact(strength), decimal(dose), text or "(nothing)") for strength, dose, text in continuations)
    return Table(
        f"{prompt}  ({'unsteered' if where is None else f'steered at {where}'})",
        ("strength", "dose", "continuation"),
        rows,
    )


def plans_table(prompt: str, continuations: Sequence[tuple[str, str]]) -> Table:
    """From each named plan (empty: unsteered) and its continuation."""
    rows = tuple((plan or "unsteered", text or "(nothing)") for plan, text in continuations)
    return Table(prompt, ("plan", "continuation"), rows)
