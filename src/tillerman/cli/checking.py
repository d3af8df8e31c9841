"""``tillerman check``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tillerman.core.finding import Finding
from tillerman.data.diagnostics import diagnose
from tillerman.data.duplicates import clean_split
from tillerman.data.loading import LoadedData
from tillerman.data.presenting import present, shown_orders


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
    split = clean_split(data.examples, shares=shares, seed=seed)
    orders = shown_orders(present(data.examples, seed))
    sizes = (len(split.train), len(split.validation), len(split.test))
    return CheckResult(data, sizes, diagnose(data.examples, split, orders=orders))
