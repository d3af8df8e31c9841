"""What was shown of a server's artefacts on this machine. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tillerman.logs.table import Table
from tillerman.reports.numbers import compact


@dataclass(frozen=True)
class ShownArtefact:
    """One artefact: the dose it was tried at, and of each check what was to be shown, whether it was, and how."""

    name: str
    sha256: str
    dose: float
    checks: tuple[tuple[str, bool, str], ...]
    cost: float | None


def proofs_table(engine: str, shown: Sequence[ShownArtefact]) -> Table:
    """A row per artefact, a column per check."""
    names = [name for name, _, _ in shown[0].checks] if shown else []
    head = ("artefact", "sha256", "dose", *names, "time ×")
    rows = [
        (
            one.name,
            one.sha256[:12],
            compact(one.dose),
            *("yes" if passed else "NO" for _, passed, _ in one.checks),
            "" if one.cost is None else f"{one.cost:.2f}",
        )
        for one in shown
    ]
    return Table(f"Steering on {engine}", head, tuple(rows))


def proof_lines(shown: Sequence[ShownArtefact]) -> list[str]:
    """What was not shown, each with what was found; then one sentence over all artefacts."""
    wrong = [f"{one.name}, {name}: {found}" for one in shown for name, passed, found in one.checks if not passed]
    failed = [one.name for one in shown if not all(passed for _, passed, _ in one.checks)]
    if failed:
        return [*wrong, f"{', '.join(failed)}: steering does not do here what it says"]
    costs = [one.cost for one in shown if one.cost is not None]
    cost = f"; a steered answer takes at most {max(costs):.2f} times as long as an unsteered one" if costs else ""
    artefacts = "1 artefact" if len(shown) == 1 else f"{len(shown)} artefacts"
    return [f"steering fires: {artefacts}, all checks passed{cost}"]
