"""``tillerman fit``: fit, choose and test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

import tillerman
from tillerman.cli import options as o, values
from tillerman.cli.names import ESTIMATORS, GROUPS, METHODS
from tillerman.cli.output import (
    ERR,
    NO_EFFECT,
    OUT,
    Destination,
    load,
    print_forecast,
    print_power,
    print_skipped,
    watch,
)
from tillerman.cli.resumable import beside, resumable
from tillerman.core.opening import AS_USUAL, Opening

if TYPE_CHECKING:
    from tillerman.data.loading import LoadedData
    from tillerman.logs.evaluation import EvaluationLog
    from tillerman.pipeline.experiment import Experiment


def fit(
    data: o.Data,
    model: o.Model = "pilot",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="file for the artefact; DATA's name + .safetensors if not given")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help=f"a method, a group, or several with commas, from which validation items choose. Methods: "
            f"{', '.join(METHODS)}. Groups: {', '.join(GROUPS)}. Those of labels take an estimator, as caa+pca: "
            f"{', '.join(ESTIMATORS)}. Options follow a colon, as iti:share=0.25"
        ),
    ] = "auto",
    layers: o.Layers = None,
    together: o.Together = "auto",
    doses: o.Doses = None,
    strengths: Annotated[
        str | None, typer.Option(help="grid of strengths (multiples of the vector), instead of doses")
    ] = None,
    scope: o.ScopeName = "auto",
    site: o.Site = "resid_post",
    read: o.Read = "auto",
    pas_paper: Annotated[
        bool, typer.Option("--pas-paper", help="PAS as published: its hook points, strengths and prompt format")
    ] = False,
    gate: o.GateData = None,
    gate_at: o.GateAt = None,
    gate_positive: o.GatePositive = None,
    grid: o.Grid = "coarse",
    budget: o.Budget = None,
    fast: o.Fast = False,
    objective: o.Objective = "scored",
    written_prompts: o.WrittenPrompts = 32,
    written_tokens: o.WrittenTokens = 40,
    max_kl: o.MaxKl = "auto",
    max_perplexity_ratio: o.MaxPerplexityRatio = "auto",
    nested: o.Nested = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="random seed of split, option order and nulls; 0 if not given")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="several random seeds: 1-15 gives a t-interval over seeds")] = None,
    template: o.Template = "auto",
    template_args: o.TemplateArgs = None,
    system: o.System = None,
    answer_tokens: o.AnswerTokens = 256,
    as_choice: o.AsChoice = False,
    keep_order: o.KeepOrder = False,
    calibrate: o.Calibrate = False,
    shares: o.Shares = "0.6,0.2,0.2",
    prompt: o.Prompt = None,
    behaviour: o.Behaviour = None,
    shots: o.Shots = 10,
    on_shots: o.OnShots = 0,
    lora_baseline: o.Lora = False,
    on_lora: Annotated[
        bool, typer.Option("--on-lora", help="fine-tune (LoRA) on the training items first; needs --save-model")
    ] = False,
    save_model: Annotated[
        Path | None, typer.Option(help="folder for the fine-tuned model that the vector belongs to")
    ] = None,
    neutral: o.Neutral = "sample:wikitext",
    unrelated: o.Unrelated = "sample:mmlu",
    limit: o.Limit = None,
    max_train: o.MaxTrain = None,
    layout: o.Layout = None,
    columns: o.Columns = None,
    positive: o.Positive = None,
    skip_bad_rows: o.SkipBadRows = False,
    skip_long: o.SkipLong = False,
    opening: Opening = AS_USUAL,
    report: o.Report = None,
    samples: o.Samples = None,
    track: o.Track = None,
    as_json: o.Json = False,
) -> None:
    """Fit, choose and test a steering vector from labelled examples.

    The artefact holds everything that was measured about it. Exit code 3 if no effect of
    its own was found. An interrupted run resumes where it stopped when the same command is given again."""
    from tillerman.logs.verdict import WORKS
    from tillerman.pipeline.experiment import Experiment
    from tillerman.pipeline.presets import pas_paper as paper, quick
    from tillerman.reports.verdict import judge_log

    if on_lora != (save_model is not None):
        raise tillerman.UsageError(
            "--on-lora and --save-model go together: a vector of a fine-tuned model is of no "
            "use without that model, and no other model is saved"
        )
    dose_grid = values.numbers(doses, "--doses")
    changes: dict[str, Any] = {
        "layers": values.layers_of(layers),
        "together": together,
        "gate": values.gate_of(gate, gate_at, gate_positive),
        "template_args": values.arguments_of(template_args),
        "as_choice": as_choice,
        "keep_order": keep_order,
        "calibrate": calibrate,
        "system": system,
        "max_train": max_train,
        "skip_long": skip_long,
        "answer_tokens": answer_tokens,
        "shares": values.shares_of(shares),
        "read": read,
        "grid": grid,
        "budget": values.seconds_of(budget, "--budget"),
        "objective": objective,
        "written_prompts": written_prompts,
        "written_tokens": written_tokens,
        "max_kl": values.limit_of(max_kl, "--max-kl"),
        "max_perplexity_ratio": values.limit_of(max_perplexity_ratio, "--max-perplexity-ratio"),
        "nested": nested,
        "prompt": prompt,
        "behaviour": behaviour,
        "shots": shots,
        "base_shots": on_shots,
        "base_lora": on_lora,
        "lora": lora_baseline,
        "neutral": neutral,
        "unrelated": unrelated,
        **({} if dose_grid is None else {"doses": dose_grid}),
    }
    if pas_paper:
        set_by_paper = {
            "--scope": scope != "auto",
            "--site": site != "resid_post",
            "--template": template != "auto",
            "--template-args": template_args is not None,
            "--strengths": strengths is not None,
            "--doses": dose_grid is not None,
        }
        clash = [name for name, given in set_by_paper.items() if given]
        if clash:
            raise tillerman.UsageError(f"--pas-paper fixes {', '.join(clash)}; omit one of the two")
        experiment = paper(Experiment(method=method, **changes))
    else:
        if dose_grid is not None and strengths is not None:
            raise tillerman.UsageError("--doses and --strengths are two ways to say the same; give one of them")
        experiment = Experiment(
            method=method,
            scope=scope,
            site=site,
            template=template,
            strengths=values.numbers(strengths, "--strengths"),
            **changes,
        )
    if fast:
        experiment = quick(experiment)
    if seed is not None and seeds is not None:
        raise tillerman.UsageError("--seed and --seeds are two ways to say the same; give one of them")
    chosen_seeds = values.whole_numbers(seeds, "--seeds") or (seed or 0,)
    shown = Destination(report, samples, as_json, track)
    shown.ensure()
    loaded = load(data, layout, columns, positive, limit, skip_bad_rows)
    path = out or Path(f"{loaded.name}.safetensors")
    values.writable(path)
    written = Outputs(path, values.new_folder(save_model))
    choice = o.ModelChoice(model, opening)
    log = run_fit(experiment, chosen_seeds, loaded, choice, written, ERR, shown.show)
    if not as_json:
        print_skipped(loaded.skipped)
        OUT.print(f"artefact: {path}")
        if save_model is not None:
            OUT.print(f"model: {save_model}")
    if judge_log(log).outcome not in WORKS:
        raise typer.Exit(NO_EFFECT)


@dataclass(frozen=True)
class Outputs:
    """What a fit writes: the artefact, and the fine-tuned model it belongs to, where there is one."""

    artefact: Path
    model: Path | None = None


def run_fit(
    experiment: Experiment,
    seeds: Sequence[int],
    data: LoadedData,
    model: o.ModelChoice,
    written: Outputs,
    console: Console,
    show: Callable[[EvaluationLog], None] = lambda log: None,
) -> EvaluationLog:
    """Fit, write the artefact, and show what came out, also where it could not be written. Finished pieces lie in
    ``OUT.partial`` until all is done."""
    from tillerman.core.artefact import save
    from tillerman.core.files import as_ours, in_turn
    from tillerman.models.finetuning import save_model
    from tillerman.pipeline.flow import fit_seeds, run_key
    from tillerman.pipeline.shares import foresee

    print_power(console, foresee(replace(experiment, seed=seeds[0]), data))
    opened, out = model.open(), written.artefact
    print_forecast(console, experiment, opened, data, len(seeds))
    with resumable(beside(out), run_key(experiment, seeds, opened, data), console) as store:
        outcome = fit_seeds(experiment, seeds, opened, data, store=store, watch=watch(console))

        def save_tuned() -> None:
            if outcome.tuned is not None and written.model is not None:
                with as_ours(written.model):
                    save_model(outcome.tuned, written.model)

        in_turn(save_tuned, lambda: save(out, outcome.artefact), lambda: show(outcome.log))
    return outcome.log
