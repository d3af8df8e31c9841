"""``tillerman check``: diagnose data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tillerman.cli import options as o
from tillerman.cli.output import OUT, load, print_json, print_skipped

if TYPE_CHECKING:
    from tillerman.core.finding import Finding
    from tillerman.data.loading import LoadedData


def check(
    data: o.Data,
    layout: o.Layout = None,
    columns: o.Columns = None,
    positive: o.Positive = None,
    limit: o.Limit = None,
    skip_bad_rows: o.SkipBadRows = False,
    shares: o.Shares = "0.6,0.2,0.2",
    seed: Annotated[int, typer.Option(help="random seed for the split and the order of options")] = 0,
    as_json: o.Json = False,
) -> None:
    """Diagnose data before fitting: balance, confounds, duplicates, leakage.

    Also whether answers fit the prompt's template. Exit code 1 if a finding is an error."""
    from tillerman.cli.render import print_table
    from tillerman.reports.diagnostics import diagnostics_table

    loaded = load(data, layout, columns, positive, limit, skip_bad_rows)
    result = run_check(loaded, o.shares_of(shares), seed)
    if as_json:
        print_json(result.to_json())
    else:
        OUT.print(
            f"{loaded.name}: {len(loaded.examples)} items, layout {loaded.layout}; train {result.split[0]}, "
            f"validation {result.split[1]}, test {result.split[2]}",
            highlight=False,
        )
        print_table(OUT, diagnostics_table(result.findings))
        print_skipped(loaded.skipped)
    if any(f.level == "error" for f in result.findings):
        raise typer.Exit(1)


@dataclass(frozen=True)
class CheckResult:
    data: LoadedData
    split: tuple[int, int, int]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "data": self.data.name,
            "layout": self.data.layout,
            "items": len(self.data.examples),
            "n_train": self.split[0],
            "n_validation": self.split[1],
            "n_test": self.split[2],
            "skipped": list(self.data.skipped),
            "findings": [asdict(finding) for finding in self.findings],
        }


def run_check(data: LoadedData, shares: tuple[float, float, float], seed: int) -> CheckResult:
    """The same split and option orders that a fit with this seed would use."""
    from tillerman.data.diagnostics import diagnose
    from tillerman.data.duplicates import clean_split
    from tillerman.data.presenting import present, shown_orders

    split = clean_split(data.examples, shares=shares, seed=seed)
    orders = shown_orders(present(data.examples, seed))
    sizes = (len(split.train), len(split.validation), len(split.test))
    return CheckResult(data, sizes, diagnose(data.examples, split, orders=orders))
