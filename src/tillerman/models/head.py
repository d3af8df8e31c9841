"""The language-model head, asked for chosen tokens only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tillerman.core.errors import ModelError
from tillerman.models.families import Anatomy
from tillerman.models.memory import positions_at_once

# In float32 these stay in a core's cache of 1 MB. A softmax over more goes through memory at every step and took three
# times as long.
CACHED_LOGITS = 2**18


def option_head(
    parts: Anatomy, options: Sequence[Sequence[int]]
) -> Callable[[Float[Tensor, "b c d"]], Float[Tensor, "c b o"]]:
    """The language-model head, for each row's own options only."""
    head = parts.causal.get_output_embeddings()  # type: ignore[no-untyped-call]
    longest = max(map(len, options))
    tokens = torch.tensor([[*row, *[row[0]] * (longest - len(row))] for row in options])
    if _has_rows(head):
        tokens = tokens.to(head.weight.device)  # which may not be where the model begins
        weight = head.weight[tokens]  # [b, o, d]
        bias = 0.0 if head.bias is None else head.bias[tokens]
        return lambda hidden: _after(parts, torch.einsum("bcd,bod->cbo", hidden.to(weight.device), weight) + bias)

    # A quantised, split, offloaded or wrapped head is asked for the whole vocabulary.
    def of_all(hidden: Float[Tensor, "b c d"]) -> Float[Tensor, "c b o"]:
        logits = _after(parts, head(hidden))
        wanted = tokens.to(logits.device)[:, None].expand(-1, hidden.shape[1], -1)
        return logits.gather(2, wanted).transpose(0, 1)

    return of_all


def _has_rows(head: nn.Module) -> bool:
    """Whether the head's weight is a table with a row per token. Weights of another class (quantised, split) may only
    look like one: a row is tried."""
    if type(head) is not nn.Linear or head.weight.is_meta:
        return False
    if type(head.weight) is nn.Parameter:
        return True
    try:
        with torch.no_grad():
            probe = torch.linspace(-1, 1, head.in_features).to(head.weight)
            theirs = head(probe)[:1] - (0.0 if head.bias is None else head.bias[:1])
            return bool(torch.allclose(head.weight[:1] @ probe, theirs, rtol=0.02, atol=1e-3))
    except (RuntimeError, NotImplementedError, TypeError, AttributeError):
        return False


def all_logits(parts: Anatomy, hidden: Float[Tensor, "*n d"]) -> Float[Tensor, "*n v"]:
    """The language-model head as it is, for few positions."""
    head = parts.causal.get_output_embeddings()  # type: ignore[no-untyped-call]
    # A slice of three dimensions would be multiplied row by row, with a copy of the whole table for each.
    logits = _after(parts, head(hidden.flatten(0, -2)))
    return logits.reshape(*hidden.shape[:-1], logits.shape[-1])


def token_logprobs(parts: Anatomy, hidden: Float[Tensor, "n c d"], tokens: Int[Tensor, " n"]) -> Float[Tensor, "n c"]:
    """Log-probability of each token where ``hidden`` predicts it, a slice of the vocabulary's room at a time."""
    states, wanted = hidden.flatten(0, 1), tokens.repeat_interleave(hidden.shape[1])
    size = max(1, positions_at_once(parts) // 2)
    out = []
    for start in range(0, len(states), size):
        logits = all_logits(parts, states[start : start + size])
        mine = wanted[start : start + size].to(logits.device)
        for some, those in zip(in_cache(logits), torch.split(mine, cached_rows(logits)), strict=True):
            each = some.float()
            out.append(each.gather(1, those[:, None]).squeeze(1) - each.logsumexp(1))
    return torch.cat(out).reshape(hidden.shape[:2]).to(hidden.device)


def cached_rows(logits: Float[Tensor, "n v"]) -> int:
    """How many rows of logits stay in a core's cache while a softmax goes over them, again and again; on an accelerator
    all. The numbers are the same: every row has its own."""
    return max(1, len(logits) if logits.device.type != "cpu" else CACHED_LOGITS // logits.shape[1])


def in_cache(logits: Float[Tensor, "n v"]) -> tuple[Float[Tensor, "_ v"], ...]:
    return torch.split(logits, cached_rows(logits))


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a pass says of the tokens that follow: hidden states, of which the head is asked a room of logits at a time,
    or logits, where the head cannot be asked alone."""

    parts: Anatomy
    states: Float[Tensor, "b k _"]
    hidden: bool

    def rows(self, places: Int[Tensor, " n"]) -> Predictions:
        return replace(self, states=self.states[places.to(self.states.device)])

    def before(self, other: Predictions) -> Predictions:
        """Those of the same rows at later tokens, after these."""
        return replace(self, states=torch.cat([self.states, other.states], dim=1))

    def made(self) -> Predictions:
        """The same with the logits of the whole vocabulary in the place of hidden states."""
        logits = torch.cat([self.logits(here) for here in self.places])
        return replace(self, states=logits.reshape(*self.states.shape[:2], -1), hidden=False)

    @property
    def places(self) -> list[slice]:
        """Some tokens at a time, as many as the room for logits holds; tokens are counted row after row."""
        count, size = self.states.shape[0] * self.states.shape[1], max(1, positions_at_once(self.parts) // 3)
        return [slice(start, min(count, start + size)) for start in range(0, count, size)]

    def logits(self, here: slice) -> Float[Tensor, "n v"]:
        """Of the whole vocabulary, of some tokens."""
        some = self.states.flatten(0, 1)[here]
        return all_logits(self.parts, some[None])[0] if self.hidden else some

    def of(self, tokens: Int[Tensor, "b k"]) -> tuple[Float[Tensor, "b k"], Bool[Tensor, "b k"]]:
        """The log-probability of these tokens, and whether each is the most likely one."""
        wanted = tokens.flatten()
        scores, likeliest = [], []
        for here in self.places:
            logits = self.logits(here)
            mine = wanted[here].to(logits.device)
            for some, those in zip(in_cache(logits), torch.split(mine, cached_rows(logits)), strict=True):
                logprobs = some.float().log_softmax(-1)
                scores.append(logprobs.gather(1, those[:, None]).squeeze(1))
                likeliest.append(logprobs.argmax(1) == those)
        device = self.parts.device
        return torch.cat(scores).reshape(tokens.shape).to(device), torch.cat(likeliest).reshape(tokens.shape).to(device)


def can_be_asked(parts: Anatomy) -> bool:
    """Whether the model was opened and it is known what it does to its logits after its head."""
    return _LEARNT.get(_key(parts)) is not None


def learn_head(parts: Anatomy, hidden: Float[Tensor, "b s d"], logits: Float[Tensor, "b s v"]) -> None:
    """Find what this model does to its logits after the head, by one pass's hidden states and logits."""
    head: nn.Module = parts.causal.get_output_embeddings()  # type: ignore[no-untyped-call]
    config = parts.causal.config.get_text_config()
    try:
        raw = head(hidden.to(head.weight.dtype) if isinstance(head, nn.Linear) else hidden).float()
    except RuntimeError:  # it takes something else than what the decoder gives
        _LEARNT[_key(parts)] = None
        return
    logits = logits.to(raw.device).float()  # where the head is, in a model that is split
    limit = (1e-3 if parts.causal.dtype == torch.float32 else 0.05) * logits.norm()
    fitting = (after for after in _readings(config) if (after(raw) - logits).norm() <= limit)
    _LEARNT[_key(parts)] = next(fitting, None)


_After = Callable[[Tensor], Tensor]
_CAPS = ("final_logit_softcapping", "logits_soft_cap")  # Gemma 2 to 4; RecurrentGemma
_FACTORS = ("logit_scale", "logits_scaling", "lm_head_multiplier")  # Cohere; Granite and HyperCLOVA X; Falcon H1
# By class and numbers of the configuration; None: this model's logits are something else again.
_LEARNT: dict[tuple[object, ...], _After | None] = {}


def _numbers(config: Any, names: Sequence[str]) -> list[float]:
    found = [getattr(config, name, None) for name in names]
    return [float(one) for one in found if isinstance(one, int | float) and one]


def _key(parts: Anatomy) -> tuple[object, ...]:
    config = parts.causal.config.get_text_config()
    return type(parts.causal), *_numbers(config, _CAPS), *_numbers(config, _FACTORS)


def _readings(config: Any) -> Iterator[_After]:
    """What a model may do to its logits, the usual first: nothing or a cap; times or divided by a number."""
    caps = _numbers(config, _CAPS)
    factors = [one for number in _numbers(config, _FACTORS) for one in (number, 1 / number)]
    for factor in (1.0, *factors):
        for cap in (*caps, None):
            yield partial(_changed, factor=factor, cap=cap)


def _changed(logits: Tensor, *, factor: float, cap: float | None) -> Tensor:
    scaled = logits if factor == 1.0 else logits * factor
    return cap * torch.tanh(scaled / cap) if cap else scaled


def _after(parts: Anatomy, logits: Tensor) -> Tensor:
    key = _key(parts)
    # A model that was never opened is taken for a usual one.
    after = _LEARNT[key] if key in _LEARNT else next(_readings(parts.causal.config.get_text_config()))
    if after is None:
        raise ModelError(
            f"{type(parts.causal).__name__} does something to its logits after its head that is not known here; what "
            "asks the head alone (gradients, training, attacks) cannot be used with this model"
        )
    return after(logits)
