"""What a certificate can be asked, and the names of its trials."""

from __future__ import annotations

from dataclasses import dataclass

from tillerman.core.budget import MAX_KL, MAX_PERPLEXITY_RATIO
from tillerman.core.errors import UsageError
from tillerman.studies.id_ood.options import IdOodOptions
from tillerman.studies.options import StudyOptions
from tillerman.studies.safety.options import SafetyOptions
from tillerman.studies.samples.options import SamplesOptions
from tillerman.studies.side_effects.options import CHOSEN, SideEffectsOptions

CONTROL, UTILITY, ROBUSTNESS, FEW, SAFETY = "control", "utility", "robustness", "few examples", "safety"
ORDERS = "every option order"
_BELOW = (0.5, 0.75)  # of its strength: what could be certified where its own is too dear


@dataclass(frozen=True)
class CertifyOptions(StudyOptions):
    """``limit`` test items are asked in every way, and as many prompts of each side (80 at most) are tested for
    refusals. A certificate needs many: of few items nothing is established. The budget of utility, ``draws`` of random
    directions, ``text_tokens`` of a reply, and what a change of refusals may be are those of the studies of each gate.
    ``counts``: of the vectors of few examples."""

    draws: int = 4
    context_tokens: int = 256
    counts: tuple[int, ...] = (8, 16, 32)
    max_kl: float = MAX_KL
    max_perplexity_ratio: float = MAX_PERPLEXITY_RATIO
    max_loss: float = 0.05
    text_tokens: int = 40
    prompts: tuple[str, ...] = ()
    safe_prompts: tuple[str, ...] = ()
    max_change: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.limit < 20:
            raise UsageError(f"`limit` {self.limit}: fewer than 20 items certify nothing")
        _ = (self.utility, self.robustness, self.few, self.safety)  # what their studies refuse is refused here

    @property
    def utility(self) -> SideEffectsOptions:
        return SideEffectsOptions(
            limit=self.limit,
            seed=self.seed,
            factors=(*_BELOW, CHOSEN),
            max_kl=self.max_kl,
            max_perplexity_ratio=self.max_perplexity_ratio,
            max_loss=self.max_loss,
            text_tokens=self.text_tokens,
        )

    @property
    def robustness(self) -> IdOodOptions:
        return IdOodOptions(
            limit=self.limit,
            seed=self.seed,
            others=(),
            matrix=False,
            context_tokens=self.context_tokens,
            draws=self.draws,
        )

    @property
    def few(self) -> SamplesOptions:
        return SamplesOptions(limit=self.limit, seed=self.seed, counts=self.counts, draws=self.draws)

    @property
    def safety(self) -> SafetyOptions:
        return SafetyOptions(
            limit=min(self.limit, SafetyOptions.limit),
            seed=self.seed,
            draws=self.draws,
            text_tokens=self.text_tokens,
            prompts=self.prompts,
            safe_prompts=self.safe_prompts,
            max_change=self.max_change,
        )
