"""Gradients of a loss over answers: with respect to activations, or to the parameters below a hook point.

Batched, on a model in any mode, under any grad mode of the caller; the model's parameters keep their
``requires_grad`` and ``.grad``. The losses are those of COLD-Steer (arXiv 2603.06495, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from tillerman.core.errors import FitError, ModelError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.registry import Registry
from tillerman.core.rows import Progress, silent
from tillerman.models.batches import Batch, padded, token_budget
from tillerman.models.branches import placed
from tillerman.models.edit import Edit, edit_forward
from tillerman.models.families import Anatomy
from tillerman.models.head import token_logprobs
from tillerman.models.memory import fitting, in_two
from tillerman.models.opened import OpenModel

BETA = 0.1  # of the loss over pairs

LogProbs = Float[Tensor, "b k"]  # of each example's answers: mean log-probability per token
Loss = Callable[[LogProbs, Float[Tensor, "b k"]], Float[Tensor, " b"]]


@dataclass(frozen=True)
class Taught:
    """A prompt and answers to it, the wanted one first; ``target`` holds the share that each should have,
    for the loss that asks for shares (its answers are options of one token)."""

    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    target: tuple[float, ...] = ()


def pair(logprobs: LogProbs, target: Float[Tensor, "b k"]) -> Float[Tensor, " b"]:
    """``-log sigmoid(beta (lp+ - lp-))``, beta 0.1: DPO without a reference model."""
    del target
    return -logsigmoid(BETA * (logprobs[:, 0] - logprobs[:, 1]))


def rejected(logprobs: LogProbs, target: Float[Tensor, "b k"]) -> Float[Tensor, " b"]:
    """The same value, with the gradient of the rejected answer alone, as in the authors' code."""
    del target
    return -logsigmoid(BETA * (logprobs[:, 0].detach() - logprobs[:, 1]))


def positive(logprobs: LogProbs, target: Float[Tensor, "b k"]) -> Float[Tensor, " b"]:
    """``-lp+``: cross-entropy on the wanted answer."""
    del target
    return -logprobs[:, 0]


def negative(logprobs: LogProbs, target: Float[Tensor, "b k"]) -> Float[Tensor, " b"]:
    """``lp-``: minus cross-entropy on the last answer, which is the unwanted one."""
    del target
    return logprobs[:, -1]


def shares(logprobs: LogProbs, target: Float[Tensor, "b k"]) -> Float[Tensor, " b"]:
    """``-sum_k target_k log softmax(lp)_k``: cross-entropy to the answer shares of a group of people."""
    return -torch.where(target > 0, target * logprobs.log_softmax(1), 0.0).sum(1)


LOSSES: Registry[Loss] = Registry(
    "loss", {"pair": pair, "rejected": rejected, "positive": positive, "negative": negative, "shares": shares}
)


@dataclass(frozen=True, eq=False)
class AtPrompts:
    """At the last prompt token of each example: activations, and the gradients of its own loss."""

    activations: Mapping[HookPoint, Float[Tensor, "n d"]]
    gradients: Mapping[HookPoint, Float[Tensor, "n d"]]
    losses: Float[Tensor, " n"]


@torch.inference_mode(False)  # tensors made in it could not be saved for a backward pass
def activation_gradients(
    opened: OpenModel,
    examples: Sequence[Taught],
    points: Sequence[HookPoint],
    loss: str = "pair",
    *,
    budget: int | None = None,
    progress: Progress = silent,
) -> AtPrompts:
    """``dL_i / dZ_i`` at every hook point, float32 on the CPU. The backward pass ends at the lowest of them.

    Where the answers of an example take several rows, the gradients of all rows add up.
    """
    points = sorted(set(points))
    seen = {p: torch.empty(len(examples), opened.parts.width_at(p)) for p in points}
    slopes = {p: torch.empty_like(seen[p]) for p in points}
    losses = torch.empty(len(examples))

    def run(laid: _Laid) -> tuple[dict[HookPoint, Tensor], Sequence[Tensor], Tensor]:
        got: dict[HookPoint, Tensor] = {}
        edits = {point: _leaf(point, got) for point in points}
        with only_wanted(opened.parts, ()), edit_forward(opened.parts, edits, lambda _: None):
            each = _losses(opened, laid, LOSSES[loss])
            return got, torch.autograd.grad(each.sum(), [got[p] for p in points]), each.detach()

    for laid, (got, found, each) in fitting(opened.parts, _laid_out(opened, examples, budget), run, _Laid.halves):
        for point, gradient in zip(points, found, strict=True):
            rows, columns, owner = (i.to(gradient.device) for i in laid.prompt_ends)
            summed = gradient.new_zeros(len(laid.examples), gradient.shape[2]).float()
            summed.index_add_(0, owner, gradient[rows, columns].float())
            slopes[point][laid.examples] = summed.cpu()
            first = torch.stack([(laid.prompt_ends[2] == k).nonzero()[0, 0] for k in range(len(laid.examples))])
            seen[point][laid.examples] = got[point].detach()[rows, columns][first].float().cpu()
        losses[laid.examples] = each.float().cpu()
        progress(len(laid.examples))
    return AtPrompts(seen, slopes, losses)


@torch.inference_mode(False)
def parameter_gradient(
    opened: OpenModel,
    examples: Sequence[Taught],
    point: HookPoint,
    loss: str = "pair",
    *,
    budget: int | None = None,
    progress: Progress = silent,
) -> dict[str, Tensor]:
    """``g = 1/N sum_i dL_i / dtheta`` for the parameters that can change the hook point, by their names in the
    decoder; float32 on the CPU. One sum over all batches, whatever N is."""
    wanted = parameters_below(opened.parts, point)
    total: dict[str, Tensor] = {}

    def run(laid: _Laid) -> Sequence[Tensor | None]:
        with only_wanted(opened.parts, wanted.values()):
            each = _losses(opened, laid, LOSSES[loss])
            return torch.autograd.grad(each.sum(), list(wanted.values()), allow_unused=True)

    for laid, found in fitting(opened.parts, _laid_out(opened, examples, budget), run, _Laid.halves):
        for name, gradient in zip(wanted, found, strict=True):
            if gradient is not None:  # an expert that no token was sent to
                total[name] = total[name].add_(gradient) if name in total else gradient.float()
        progress(len(laid.examples))
    return {name: (gradient / len(examples)).cpu() for name, gradient in total.items()}


def parameters_below(parts: Anatomy, point: HookPoint) -> dict[str, nn.Parameter]:
    """Embedding and blocks up to the hook point, by their names in the decoder: nothing above can change it."""
    depth = depths(parts)
    last = point.layer - 1 if point.site == "resid_pre" else point.layer
    found = {name: p for name, p in parts.decoder.named_parameters() if depth.get(name, last + 1) <= last}
    awkward = [name for name, p in found.items() if p.is_meta or not p.is_floating_point()]
    if awkward:
        raise ModelError(
            f"{awkward[0]} is offloaded or quantised, and gradients need plain weights in memory; "
            "open the model on one device in float32 or bfloat16"
        )
    return found


def depths(parts: Anatomy) -> dict[str, int]:
    """Of each parameter of embedding (-1) and blocks, by its name in the decoder, the block it is in."""
    names = {id(p): name for name, p in parts.decoder.named_parameters()}
    found = {
        names[id(p)]: -1
        for module in parts.decoder.modules()
        if isinstance(module, nn.Embedding)
        for p in module.parameters(recurse=False)
        if id(p) in names
    }
    return found | {names[id(p)]: layer for layer, block in enumerate(parts.blocks) for p in block.parameters()}


@dataclass(frozen=True, eq=False)
class _Laid:
    """Examples of one pass: every distinct prompt + answer is a row, answers of one token share the prompt's.

    ``prompt_ends``: row, column and example of each row's last prompt token. ``scored``: row, column, token,
    and place of the answer among ``b * k``, of every answer token, at the column that predicts it."""

    examples: list[int]
    batch: Batch
    prompt_ends: tuple[Int[Tensor, " r"], Int[Tensor, " r"], Int[Tensor, " r"]]
    scored: Int[Tensor, "t 4"]
    target: Float[Tensor, "b k"]
    lay: Callable[[Sequence[int]], _Laid]  # some of the examples by themselves

    def halves(self) -> tuple[_Laid, ...]:
        return tuple(map(self.lay, in_two(self.examples)))


def _laid_out(opened: OpenModel, examples: Sequence[Taught], budget: int | None) -> Iterator[_Laid]:
    """Examples of like length together, so many that their rows fit the budget; the same number of answers."""
    if not examples:
        raise FitError("no example to take a gradient of")
    if any(not t.prompt or not all(t.answers) for t in examples):
        raise FitError("a gradient is read at the prompt's last token; labelled texts have no prompt: use --method caa")
    cells = [len(t.answers) * (len(t.prompt) + max(map(len, t.answers))) for t in examples]
    order = sorted(range(len(examples)), key=lambda i: (len(examples[i].answers), cells[i]))
    room, start = budget or token_budget(opened.parts), 0
    for stop in range(1, len(order) + 1):
        alike = stop < len(order) and len(examples[order[stop]].answers) == len(examples[order[start]].answers)
        if alike and (stop + 1 - start) * cells[order[stop]] <= room:
            continue
        yield _lay(examples, opened.pad_id, order[start:stop])
        start = stop


def _lay(examples: Sequence[Taught], pad: int, chosen: Sequence[int]) -> _Laid:
    rows: dict[tuple[int, tuple[int, ...]], int] = {}
    tokens: list[list[int]] = []
    for at, i in enumerate(chosen):
        for k, answer in enumerate(examples[i].answers):
            row = rows.setdefault((at, answer[:-1]), len(rows))
            start, place = len(examples[i].prompt) - 1, at * len(examples[i].answers) + k
            tokens += [[row, start + j, token, place] for j, token in enumerate(answer)]
    batch = padded([examples[chosen[at]].prompt + rest for at, rest in rows], pad=pad)
    shift = batch.tokens.shape[1] - batch.mask.sum(1)
    scored = torch.tensor(tokens)
    scored[:, 1] += shift[scored[:, 0]]
    owner = torch.tensor([at for at, _ in rows])
    ends = shift + torch.tensor([len(examples[chosen[at]].prompt) - 1 for at, _ in rows])
    k = len(examples[chosen[0]].answers)
    target = torch.tensor([examples[i].target or (0.0,) * k for i in chosen])
    lay = partial(_lay, examples, pad)
    return _Laid([*chosen], batch, (torch.arange(len(rows)), ends, owner), scored, target, lay)


def _losses(opened: OpenModel, laid: _Laid, loss: Loss) -> Float[Tensor, " b"]:
    parts, device = opened.parts, opened.device
    positions = laid.batch.positions.to(device)
    hidden = parts.decoder(
        input_ids=laid.batch.tokens.to(device),
        attention_mask=laid.batch.mask.to(device),
        use_cache=False,
        **placed(parts, positions),
    ).last_hidden_state.to(device)
    rows, columns, tokens, places = laid.scored.to(device).unbind(1)
    each = token_logprobs(parts, hidden[rows, columns][:, None], tokens).squeeze(1)
    sums, counts = (each.new_zeros(laid.target.numel()) for _ in range(2))
    means = sums.index_add(0, places, each) / counts.index_add(0, places, torch.ones_like(each))
    return loss(means.reshape(laid.target.shape), laid.target.to(device))


def _leaf(point: HookPoint, got: dict[HookPoint, Tensor]) -> Edit:
    """Keep an activation to take the gradient of; the graph begins at the first one met."""

    def keep(h: Tensor) -> Tensor:
        got[point] = h if h.requires_grad else h.detach().requires_grad_()
        return got[point]

    return keep


@contextmanager
def only_wanted(parts: Anatomy, wanted: Iterable[nn.Parameter]) -> Iterator[None]:
    """Gradients are on, for these parameters only; afterwards every parameter is as it was."""
    chosen = {id(p) for p in wanted}
    before = [(p, p.requires_grad) for p in parts.causal.parameters()]
    try:
        with torch.enable_grad():
            for p, _ in before:
                p.requires_grad_(id(p) in chosen)
            yield
    finally:
        for p, flag in before:
            p.requires_grad_(flag)
