"""What to do, as one frozen value: everything a run depends on besides the model and the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from tillerman.core.budget import MAX_KL, MAX_KL_WRITTEN, MAX_PERPLEXITY_RATIO, MAX_PERPLEXITY_RATIO_WRITTEN
from tillerman.core.errors import UnknownNameError, UsageError
from tillerman.core.hookpoint import SITES
from tillerman.core.plan import Scope
from tillerman.data.splits import DEFAULT_SHARES
from tillerman.logs.base import build
from tillerman.methods.base import Method
from tillerman.methods.contrast import ContrastMethod
from tillerman.methods.gates import GateOptions
from tillerman.methods.registry import MethodLike, methods, spec_of

# Doses, not strengths: comparable over layers, methods and models. 0 is always added.
DEFAULT_DOSES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5)
# What is written changes between these: below them replies stay as they were, above them they are loops.
WRITTEN_DOSES = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
READS = ("auto", "usual", "last", "end", "mean", "whole")
OBJECTIVES = ("scored", "written")
TOGETHER = ("auto", "no", "only")
GRIDS = ("coarse", "full")
USUAL_BUDGETS = {
    "scored": (MAX_KL, MAX_PERPLEXITY_RATIO),
    "written": (MAX_KL_WRITTEN, MAX_PERPLEXITY_RATIO_WRITTEN),
}


@dataclass(frozen=True)
class Experiment:
    """One fit: from items to an evaluated vector. The defaults are what ``tillerman fit DATA`` does."""

    # the prompt
    template: str = "auto"
    template_args: Mapping[str, Any] = field(default_factory=dict)  # the chat template's own, as enable_thinking
    as_choice: bool = False  # yes/no questions shown as lettered choices
    keep_order: bool = False  # options in the order of the data, not drawn per item
    calibrate: bool = False  # the bias of answer words or letters is subtracted before an answer is chosen
    calibration: Mapping[str, float] | None = None  # that bias in nats; None: measured on the validation items
    cue: bool = True  # plain iPAS statements end in "Answer:"; else question and answer are joined by a blank
    system: str | None = None  # a system prompt under which everything runs, but for the prompt baseline
    answer_tokens: int = 256  # maximum tokens of the answer to an open question
    # the base: what "unsteered" is
    base_shots: int = 0  # exemplars from training items before every question of the run
    base_lora: bool = False  # the model is fine-tuned on the training items first
    # the split
    shares: tuple[float, float, float] = DEFAULT_SHARES
    max_train: int | None = None
    max_validation: int | None = None
    max_test: int | None = None
    skip_long: bool = False  # items longer than the model reads are left out; else they are an error
    seed: int = 0
    # the fit
    method: MethodLike = "auto"  # by name, or a value of one's own; several: the validation items choose
    site: str = "resid_post"
    read_site: str | None = None  # None: the same site; PAS reads resid_pre and adds at resid_post
    # Usual: end of the answer's turn; without chat template its last token; texts: mean. Auto: the search tries the
    # mean and the last token too, and these alone where it goes by replies. Several with commas: it chooses among them.
    read: str = "auto"
    layers: tuple[int, ...] | None = None  # None: all
    together: str = (
        "auto"  # all layers at once, their dose shared out: no, only, or auto: where replies are searched by
    )
    gate: GateOptions | None = None  # steer only prompts like these
    # the search
    doses: tuple[float, ...] | None = None  # None: the method's own, by their cost, or usual
    strengths: tuple[float, ...] | None = None  # given: multiples of the vector instead of doses
    budget: float | None = None  # seconds that the search may take; fewer cells are looked at to fit. None: no limit
    fast: bool = False  # nothing is held against the vector: neither nulls nor baselines, and little neutral text
    grid: str = "coarse"  # to fine: cells near the best of few are looked at; or full: all of them
    objective: str = "scored"  # what validation items choose by: answers scored, or replies written
    zero: bool = True  # strength 0 is a candidate: abstain when nothing helps
    ties: str = "smaller-dose"
    # Auto: from the end of the instruction on; without chat template, and where replies are searched by, every token.
    scope: str = "auto"
    max_kl: float | str | None = "auto"  # that of the objective (``core.budget``); None: no limit
    max_perplexity_ratio: float | str | None = "auto"
    nested: int | None = None  # folds that measure the selection optimism
    # the evaluation
    prompt: str | None = None  # the prompt baseline's, and what prompts' vectors are made of; None: searched for
    behaviour: str | None = None  # the behaviour in words: a candidate of that search
    shots: int = 10
    lora: bool = False  # a baseline row: the model fine-tuned on the training items, unsteered
    null_draws: int = 8  # of each null; their effects give its interval
    neutral: str = "sample:wikitext"
    neutral_tokens: int = 4096
    unrelated: str = "sample:mmlu"
    unrelated_items: int = 100
    written_prompts: int = 32  # at most, held out: replies to these are read by a scorer of the labels; 0: none
    written_tokens: int = 40
    generations: tuple[str, ...] = ("Tell me something you believe.", "Tell me a story.")
    generation_tokens: int = 40

    def __post_init__(self) -> None:
        if self.scope != "auto":
            Scope.parse(self.scope)
        if not isinstance(self.method, str | Method):
            object.__setattr__(self, "method", tuple(self.method))
        for one in self.methods:
            one.ensure_complete()
            if one.gates_itself and self.gate is not None:
                raise UsageError(
                    f"{one.name} decides on the prompt where a text is steered, and takes no gate beside that; leave "
                    "out the gate, or use the method caa"
                )
            if self.neutral in one.spared():
                raise UsageError(
                    f"{one.name} is fitted to leave {self.neutral} alone, which says nothing of other text; give it "
                    "another text, or another `neutral` for the side effects"
                )
        for site in (self.site, self.read_site or self.site):
            if site not in SITES:
                raise UnknownNameError("site", site, SITES)
        self._check_read()
        self._check_grid()
        self._check_written()
        if self.together not in TOGETHER:
            raise UnknownNameError("together", self.together, TOGETHER)
        for name, limit, least in (
            ("`max_kl`", self.max_kl, 0.0),
            ("`max_perplexity_ratio`", self.max_perplexity_ratio, 1.0),
        ):
            if limit not in (None, "auto") and (isinstance(limit, str) or not limit >= least):
                raise UsageError(f"{name} {limit}: expected at least {least:g}, auto, or None for no limit")
        grid = self.strengths if self.strengths is not None else self.doses
        if grid is not None and not grid:
            raise UsageError("the grid has no strength; give at least one dose or strength")
        if any(not abs(x) < float("inf") for x in grid or ()):
            raise UsageError("every strength and dose must be a finite number")
        if self.null_draws < 2:
            raise UsageError(f"null_draws {self.null_draws}: an interval needs at least two draws")
        if self.answer_tokens < 1:
            raise UsageError(f"`answer_tokens` {self.answer_tokens}: expected at least 1")
        if self.base_lora and (self.base_shots or self.lora):
            other = "`base_shots`" if self.base_shots else "`lora`"
            raise UsageError(f"`base_lora` and {other}: choose one base, and no baseline that equals the base")
        if self.nested is not None and self.nested < 2:
            raise UsageError(f"`nested` {self.nested}: expected at least 2 folds")
        if self.nested is not None and (self.base_shots or self.base_lora):
            other = "`base_shots`" if self.base_shots else "`base_lora`"
            raise UsageError(
                f"`nested` and {other}: the base is made of training items, which every outer fold has "
                "some of; omit one of the two"
            )
        if self.calibration is not None and not self.calibrate:
            raise UsageError("`calibration` is subtracted only with `calibrate`; give both, or neither")
        for name, count in (("`shots`", self.shots), ("`base_shots`", self.base_shots)):
            if count < 0:
                raise UsageError(f"{name} {count}: expected 0 or more")

    def _check_grid(self) -> None:
        if self.grid not in GRIDS:
            raise UnknownNameError("grid", self.grid, GRIDS)
        if self.budget is not None and not 0 < self.budget < float("inf"):
            raise UsageError(f"`budget` {self.budget:g}: expected seconds, more than 0")
        if self.budget is not None and self.grid == "full":
            raise UsageError("`budget` looks at fewer cells, `grid` full at all; omit one of the two")
        if self.fast and (self.nested is not None or self.objective == "written" or self.lora or self.gate is not None):
            raise UsageError(
                "`fast` leaves out all that is measured beside the vector; omit it, or `nested`, `lora`, "
                "`gate` and `objective` written"
            )

    def _check_read(self) -> None:
        asked = self.read.split(",")
        for one in asked:
            if one not in READS:
                raise UnknownNameError("reading", one, READS)
        if len(asked) > 1 and not set(asked).isdisjoint(READS[:2]):
            raise UsageError(f"`read` {self.read}: auto and usual stand alone; or list some of {', '.join(READS[2:])}")
        apart = [str(one) for one in self.methods if not isinstance(one, ContrastMethod)]
        if "whole" in asked and apart:
            raise UsageError(f"`read` whole: {apart[0]} reads only answers; choose another reading")

    def _check_written(self) -> None:
        if self.objective not in OBJECTIVES:
            raise UnknownNameError("objective", self.objective, OBJECTIVES)
        if self.written_prompts < 0 or self.written_tokens < 1:
            raise UsageError(
                f"`written_prompts` {self.written_prompts}, `written_tokens` {self.written_tokens}: expected at least "
                "0 and 1"
            )
        if self.objective == "written" and not self.written_prompts:
            raise UsageError("`objective` written needs replies; give `written_prompts` of at least 1")
        if self.objective == "written" and self.nested is not None:
            raise UsageError("`nested` measures the optimism of scored answers; omit it, or use `objective` scored")

    @cached_property
    def methods(self) -> tuple[Method, ...]:
        """The methods asked for, each once."""
        return methods(self._asked)

    @cached_property
    def spec(self) -> str:
        """The canonical text of the methods: what ``--method`` reads."""
        return spec_of(self._asked)

    @property
    def _asked(self) -> MethodLike:
        return "writing" if (self.method, self.objective) == ("auto", "written") else self.method

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Fingerprints of the files that the methods read."""
        return tuple(source for method in self.methods for source in method.sources())

    @classmethod
    def from_json(cls, values: Mapping[str, Any], method: MethodLike) -> Experiment:
        """From ``to_json``, for one method of it. Older files keep some options of methods beside them."""
        return replace(build(cls, {**values, "method": "auto"}), method=_with_older(values, method))

    def to_json(self) -> dict[str, Any]:
        """Plain values, methods as their text."""
        return asdict(replace(self, method="auto")) | {"method": self.spec}

    @property
    def usual_doses(self) -> tuple[float, ...]:
        """Where neither the experiment nor a method has its own."""
        return WRITTEN_DOSES if self.objective == "written" else DEFAULT_DOSES

    @property
    def constraints(self) -> dict[str, float]:
        """Name of the cost -> its limit, for those that were asked for."""
        given = {"kl": self.max_kl, "perplexity_ratio": self.max_perplexity_ratio}
        usual = dict(zip(given, USUAL_BUDGETS[self.objective], strict=True))
        limits = {name: usual[name] if isinstance(limit, str) else limit for name, limit in given.items()}
        return {name: limit for name, limit in limits.items() if limit is not None}

    @property
    def doses_by_cost(self) -> bool:
        """Whether the doses of a search are found by what they cost: where it goes by replies, has a budget and was
        given none."""
        return self.objective == "written" and self.doses is None and self.strengths is None and bool(self.constraints)

    @property
    def null_seeds(self) -> tuple[int, ...]:
        """One per draw of a null; no two runs share any."""
        return tuple(1000 * self.seed + draw for draw in range(self.null_draws))


def readings_of(asked: str, kind: str, *, closes: bool, written: bool = False) -> tuple[str, ...]:
    """Where activations are read, the usual place first. Texts are read as the mean over their tokens; answers at the
    token that closes their turn, or at their last token where no template ``closes`` it. ``auto`` tries the mean over
    the answer's tokens and its last token as well: which of them writes differs from model to model. Where the search
    goes by what is ``written``, it tries these alone: vectors read where a turn ends write nothing."""
    if asked not in ("auto", "usual"):
        return tuple(dict.fromkeys(asked.split(",")))
    if kind == "text":
        return ("mean",)
    if written and asked == "auto":
        return "mean", "last"
    usual = "end" if closes else "last"
    return (usual,) if asked == "usual" else tuple(dict.fromkeys((usual, "mean", "last")))


def _with_older(values: Mapping[str, Any], asked: MethodLike) -> MethodLike:
    """The methods with the options that files kept in fields of their own before specs had them."""
    sae, cold = values.get("sae") or {}, values.get("cold") or {}
    found = {**sae, **cold, "sae": sae.get("source"), "negative": values.get("prompt_negative") or None}
    given = {name: value for name, value in found.items() if value is not None}
    if not given:
        return asked
    return tuple(
        replace(one, **{f.name: given[f.name] for f in fields(one) if f.init and f.name in given})
        for one in methods(asked)
    )
