"""The options that commands share. ``cli.values`` reads their text."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tillerman.cli.flags import in_flags
from tillerman.cli.names import LAYOUTS, SCOPES, SCORERS, TRACKERS
from tillerman.core.errors import ModelError, UsageError
from tillerman.core.hookpoint import SITES
from tillerman.core.opening import AS_USUAL, Opening

if TYPE_CHECKING:
    from tillerman.models.opened import OpenModel

Data = Annotated[
    str,
    typer.Argument(
        help="jsonl, json, csv, tsv or parquet file (also .gz), a folder, or sample:NAME; what a file does not say of "
        "itself after a colon, as FILE:rows=train or FILE:encoding=cp1252",
        metavar="DATA",
    ),
]
SeveralData = Annotated[
    list[str], typer.Argument(help="as DATA of 'fit'; several give a table each", metavar="DATA...")
]
Model = Annotated[str, typer.Option("--model", "-m", help="'pilot' (embedded), a folder, a GGUF file, or a hub name")]
OwnModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="'pilot' (embedded), a folder, a GGUF file, or a hub name; the artefact's own if not given",
    ),
]
Layout = Annotated[
    str | None,
    typer.Option(help=f"how rows are read; detected from the fields if not given. One of {', '.join(LAYOUTS)}"),
]
Columns = Annotated[
    str | None, typer.Option(help="column mapping, e.g. question=prompt,options=a+b+c,answer=gold", metavar="MAP")
]
Positive = Annotated[str | None, typer.Option(help="labelled texts: the label to steer towards")]
MaxTrain = Annotated[int | None, typer.Option(min=1, help="fit on at most this many training items; 1 is one pair")]
Limit = Annotated[int | None, typer.Option(min=1, help="use at most this many items, chosen by hash")]
SkipBadRows = Annotated[
    bool, typer.Option("--skip-bad-rows", help="leave out and list invalid rows instead of stopping")
]
SkipLong = Annotated[
    bool, typer.Option("--skip-long", help="leave out and count items longer than the model reads instead of stopping")
]
Layers = Annotated[str | None, typer.Option(help="layers to fit, e.g. 2-5,8; all if not given")]
Together = Annotated[
    str,
    typer.Option(
        help="steer all layers at once, with the dose shared out (without --layers those in the middle of the model): "
        "no, only, or auto, which tries it beside single layers where replies are searched by"
    ),
]
Doses = Annotated[
    str | None, typer.Option(help="grid of doses (strengths in units of the residual stream), e.g. 0.1,0.5,1")
]
ScopeName = Annotated[
    str,
    typer.Option(help=f"auto, {', '.join(SCOPES)}:0,-1"),
]
Site = Annotated[str, typer.Option(help=", ".join(SITES))]
Read = Annotated[
    str,
    typer.Option(
        help="where activations are read: last (token), end (of the answer's turn), mean (over the answer's tokens), "
        "whole (mean over prompt and answer), several with commas to choose from; auto: the usual one, mean and last "
        "(for --objective written mean and last); "
        "usual: end, or last without chat template, of texts mean"
    ),
]
Grid = Annotated[
    str, typer.Option(help="coarse (to fine: cells near the best of few are looked at) or full (every cell)")
]
Budget = Annotated[
    str | None, typer.Option(help="time that the search may take, as 90s, 5m or 1h; fewer cells are looked at to fit")
]
Fast = Annotated[
    bool,
    typer.Option(
        "--fast", help="the vector and one held-out check: no nulls, no baselines, no texts; its verdict says so"
    ),
]
Objective = Annotated[
    str,
    typer.Option(help="what the search maximises: scored (answers) or written (replies, read by the labels)"),
]
WrittenPrompts = Annotated[
    int, typer.Option(min=0, help="held-out prompts whose replies are read by a scorer of the labels; 0: none")
]
WrittenTokens = Annotated[int, typer.Option(min=1, help="maximum new tokens of such a reply")]
MaxKl = Annotated[
    str,
    typer.Option(
        help="budget of the search: maximum KL on neutral text, nats per token, or none; auto: 0.1, by replies 0.3"
    ),
]
MaxPerplexityRatio = Annotated[
    str,
    typer.Option(
        help="budget of the search: maximum perplexity ratio on neutral text, or none; auto: 1.2, by replies 1.4"
    ),
]
Nested = Annotated[
    int | None,
    typer.Option(
        min=2, help="folds of a nested cross-validation that measures selection optimism; one search per fold"
    ),
]
Template = Annotated[str, typer.Option(help="prompt format: auto, chat or none")]
TemplateArgs = Annotated[
    str | None,
    typer.Option(
        "--template-args",
        help="arguments of the chat template's own, e.g. enable_thinking=false,reasoning_effort=low",
        metavar="K=V",
    ),
]
AsChoice = Annotated[bool, typer.Option("--as-choice", help="show yes/no questions as lettered choices")]
KeepOrder = Annotated[
    bool, typer.Option("--keep-order", help="options in the order of the data; otherwise shuffled for every item")
]
Calibrate = Annotated[
    bool,
    typer.Option(
        "--calibrate",
        help="subtract the bias of answer words or letters, measured on validation items, before an answer is chosen",
    ),
]
Shares = Annotated[str, typer.Option(help="train,validation,test shares")]
Json = Annotated[bool, typer.Option("--json", help="print JSON with stable keys instead of tables")]
Report = Annotated[Path | None, typer.Option(help="file for a self-contained HTML report")]
Samples = Annotated[
    str | None,
    typer.Option(
        help="file for every test item: question as the model saw it, options, all answers with their "
        "log-probabilities, and what changed; .jsonl, .csv or .parquet. - puts them into --json, under items",
        metavar="FILE",
    ),
]
Track = Annotated[
    str | None,
    typer.Option(
        help="also log the figures, without texts, to an experiment tracker under its own settings: "
        f"{', '.join(TRACKERS)}",
        metavar="TRACKER",
    ),
]
System = Annotated[str | None, typer.Option(help="system prompt of all runs except the prompt baseline")]
AnswerTokens = Annotated[int, typer.Option(min=1, help="maximum new tokens of the answer to an open question")]
Prompt = Annotated[
    str | None,
    typer.Option(help="system prompt of the prompt baseline, and actadd's text; searched for if not given"),
]
Behaviour = Annotated[
    str | None, typer.Option(help="the behaviour in words: a candidate in the search for the prompt baseline")
]
OnShots = Annotated[
    int,
    typer.Option(min=0, help="put this many exemplars before every question; the effect is what steering adds to them"),
]
Lora = Annotated[bool, typer.Option(help="add a baseline: the model fine-tuned (LoRA) on the training items")]
Shots = Annotated[int, typer.Option(help="exemplars of the few-shot baseline")]
Neutral = Annotated[
    str, typer.Option(help="neutral text for side effects: sample:wikitext, sample:tinystories or a text file")
]
Unrelated = Annotated[str, typer.Option(help="task that steering should not affect: sample:mmlu or a data file")]
GateData = Annotated[
    str | None,
    typer.Option(
        help="steer only prompts like these: labelled texts, or yes/no questions (yes: steer)", metavar="DATA"
    ),
]
GateAt = Annotated[str | None, typer.Option(help="hook point that the gate reads; the best one if not given")]
GatePositive = Annotated[str | None, typer.Option(help="label of the prompts to steer, if it is not yes or 1")]
Scorers = Annotated[
    list[str] | None,
    typer.Option(
        "--scorer",
        help=f"{', '.join(SCORERS)}; with commas, or several times; some take an argument after a colon, as "
        "pattern:REGEX, keywords:a+b, exact:TEXT; sentiment,fluency,length if not given",
        metavar="NAMES",
    ),
]
Judge = Annotated[
    str | None, typer.Option(help="address of an OpenAI-compatible endpoint, e.g. http://localhost:8000/v1")
]
JudgeModel = Annotated[str | None, typer.Option(help="the judge's name at its endpoint")]
JudgeScores = Annotated[
    str, typer.Option(help="comma-separated: behaviour, coherence, behaviour-x-coherence, axbench", metavar="NAMES")
]
JudgeRepeats = Annotated[int, typer.Option(min=1, help="ratings per text; with 2 or more, agreement is reported")]
JudgeTemperature = Annotated[
    float, typer.Option(min=0, help="sampling temperature of the judge; above 0 for repeats to differ")
]
JudgeKey = Annotated[str, typer.Option(help="environment variable that holds the judge's API key")]
JudgeCache = Annotated[
    Path | None, typer.Option(help="file of the judge's answers; beside OUT if not given", metavar="FILE")
]
JudgeReplay = Annotated[
    Path | None, typer.Option(help="take the judge's answers from this file; no network", metavar="FILE")
]
AllowMismatch = Annotated[
    bool, typer.Option("--allow-mismatch", help="apply the artefact to another model of the same shape, with a warning")
]


_REASON = 400  # characters of why a model cannot be opened, beside which artefact asks for it


@dataclass(frozen=True)
class ModelChoice:
    """Which model to open, and how."""

    name: str | None  # None: the artefact's own
    opening: Opening = AS_USUAL
    fitted: Path | None = None  # the artefact whose own model it is, where none was given

    def of(self, artefact: Path) -> ModelChoice:
        """The model that the artefact was fitted on, at its revision, where none was given."""
        if self.name is not None:
            return self
        name, revision = _own_model(artefact)
        opening = replace(self.opening, revision=self.opening.revision or revision)
        return replace(self, name=name, opening=opening, fitted=artefact)

    def open(self) -> OpenModel:
        from tillerman.cli.output import ERR
        from tillerman.models.opened import open_as  # the help must not wait for torch

        assert self.name is not None  # commands about an artefact ask ``of`` first
        try:
            return open_as(self.name, self.opening, say=lambda line: ERR.print(in_flags(line), soft_wrap=True))
        except ModelError as error:
            if self.fitted is not None:
                why = f"{str(error)[:_REASON]}{' ...' * (len(str(error)) > _REASON)}"
                error.args = (f"{self.fitted} was fitted on {self.name}, give --model where it lies now; {why}",)
            raise


def _own_model(path: Path) -> tuple[str, str | None]:
    """Name and revision."""
    from tillerman.core.artefact import load
    from tillerman.models.opened import EMBEDDED

    made = load(path).steering.provenance
    named = made.model_id
    # Folders and hub names can be opened again; a model that was loaded in Python often has the name of its class.
    here = named and (Path(named).is_dir() or (Path(named).suffix.lower() == ".gguf" and Path(named).is_file()))
    if named in EMBEDDED or here or re.fullmatch(r"[\w.-]+/[\w.-]+", named):
        return named, made.opened.get("revision")
    raise UsageError(f"{path} was fitted on {named!r}, which is no folder here and no name on the hub; give --model")
