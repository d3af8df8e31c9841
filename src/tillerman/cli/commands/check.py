"""``tillerman check``: diagnose data, and what a model makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tillerman.cli import options as o, values
from tillerman.cli.output import ERR, OUT, load, print_json, print_skipped, watch
from tillerman.core.opening import AS_USUAL, Opening

if TYPE_CHECKING:
    from tillerman.core.finding import Finding
    from tillerman.data.loading import LoadedData
    from tillerman.logs.evidence import FirstLook, ItemResult
    from tillerman.logs.forecast import EffectForecast

SHOWN = 3


def check(
    data: o.Data,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="also ask this model, unsteered: items as it sees them, the bias of its answers, and what the pairs "
            "foretell of a vector",
        ),
    ] = None,
    layout: o.Layout = None,
    columns: o.Columns = None,
    positive: o.Positive = None,
    limit: o.Limit = None,
    skip_bad_rows: o.SkipBadRows = False,
    shares: o.Shares = "0.6,0.2,0.2",
    template: o.Template = "auto",
    system: o.System = None,
    as_choice: o.AsChoice = False,
    calibrate: o.Calibrate = False,
    seed: Annotated[int, typer.Option(min=0, help="random seed for the split and the order of options")] = 0,
    opening: Opening = AS_USUAL,
    as_json: o.Json = False,
) -> None:
    """Diagnose data before fitting: balance, confounds, duplicates, leakage.

    Also whether answers fit the prompt's template, and three items as they are asked. With --model the items are as
    the model sees them, special tokens included, and more findings say whether it gives one answer to nearly
    everything, whether it tells right answers apart, and what the differences of the training pairs foretell of a
    vector. Exit code 1 if a finding is an error."""
    from tillerman.cli.render import print_line, print_table
    from tillerman.reports.diagnostics import diagnostics_table
    from tillerman.reports.effect_forecast import forecast_table, forecast_words
    from tillerman.reports.first_look import item_lines

    parts = values.shares_of(shares)
    loaded = load(data, layout, columns, positive, limit, skip_bad_rows)
    result = run_check(loaded, parts, seed, as_choice=as_choice)
    if model is not None:
        how = {"template": template, "system": system, "calibrate": calibrate, "as_choice": as_choice}
        result = run_look(result, o.ModelChoice(model, opening), {"shares": parts, "seed": seed, **how})
    if as_json:
        print_json(result.to_json())
    else:
        print_line(
            OUT,
            f"{loaded.name}: {len(loaded.examples)} items, layout {loaded.layout}; train {result.split[0]}, "
            f"validation {result.split[1]}, test {result.split[2]}",
        )
        print_table(OUT, diagnostics_table(result.findings))
        seen = "as plain text; --model shows it as a model sees it" if model is None else f"as {model} sees it"
        for line in item_lines(result.items, seen):
            print_line(OUT, line)
        if result.forecast is not None:
            print_table(OUT, forecast_table(result.forecast))
            for line in forecast_words(result.forecast):
                print_line(OUT, line)
        print_skipped(loaded.skipped)
    if any(f.level == "error" for f in result.findings):
        raise typer.Exit(1)


@dataclass(frozen=True)
class CheckResult:
    data: LoadedData
    split: tuple[int, int, int]
    findings: tuple[Finding, ...]
    items: tuple[ItemResult, ...]
    look: FirstLook | None = None
    forecast: EffectForecast | None = None

    def to_json(self) -> dict[str, Any]:
        look = None if self.look is None else asdict(self.look)
        return {
            "data": self.data.name,
            "layout": self.data.layout,
            "items": len(self.data.examples),
            "n_train": self.split[0],
            "n_validation": self.split[1],
            "n_test": self.split[2],
            "skipped": list(self.data.skipped),
            "findings": [asdict(finding) for finding in self.findings],
            "shown": [asdict(item) for item in self.items],
            "unsteered": None if look is None else {name: look[name] for name in look if name != "items"},
            "forecast": None if self.forecast is None else asdict(self.forecast),
        }


def run_check(data: LoadedData, shares: tuple[float, float, float], seed: int, *, as_choice: bool) -> CheckResult:
    """The same split and option orders that a fit with this seed would use."""
    from tillerman.data.diagnostics import diagnose
    from tillerman.data.duplicates import clean_split
    from tillerman.data.presenting import as_choices, options_shown, present, shown_orders
    from tillerman.logs.evidence import ItemResult

    examples = as_choices(data.examples) if as_choice else data.examples
    split = clean_split(examples, shares=shares, seed=seed)
    items = present(examples, seed)
    sizes = (len(split.train), len(split.validation), len(split.test))
    shown = [ItemResult(i.example.id, i.prompt, options_shown(i), i.answers[i.right], ()) for i in items[:SHOWN]]
    return CheckResult(data, sizes, diagnose(examples, split, orders=shown_orders(items)), tuple(shown))


def run_look(checked: CheckResult, model: o.ModelChoice, asked: Mapping[str, Any]) -> CheckResult:
    """The check with what a model makes of the data, and what their pairs foretell; ``asked`` are fields of
    ``Experiment``."""
    from tillerman.core.errors import FitError
    from tillerman.pipeline.effect_forecast import effect_forecast
    from tillerman.pipeline.experiment import Experiment
    from tillerman.pipeline.first_look import first_look
    from tillerman.reports.effect_forecast import forecast_findings, no_forecast
    from tillerman.reports.first_look import look_findings

    experiment, opened = Experiment(**asked), model.open()
    look, forecast = first_look(experiment, opened, checked.data, watch=watch(ERR)), None
    try:
        forecast = effect_forecast(experiment, opened, checked.data, watch=watch(ERR))
        foretold = forecast_findings(forecast)
    except FitError as error:
        foretold = (no_forecast(str(error)),)
    findings = (*checked.findings, *look_findings(look), *foretold)
    return replace(checked, findings=findings, items=look.items, look=look, forecast=forecast)
