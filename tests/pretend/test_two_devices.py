"""A model that is split over two devices gives the CPU's numbers, whether its head is tied to the embedding or not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import tillerman
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.core.rows import Row
from tillerman.models.batches import padded
from tillerman.models.capture import capture
from tillerman.models.cells import GridCell
from tillerman.models.families import anatomy
from tillerman.models.grid import branch_fault, grid_answer_scores, grid_scores
from tillerman.models.logits import answer_sums, option_logprobs
from tillerman.models.opened import OpenModel
from tillerman.models.unsteered import unsteered_answers, unsteered_options
from tillerman.steering.generation import Sampling, continuation_tokens

from .. import tiny
from .machine import pretend_machine
from .record import DOUBLE
from .split import split_over_two

pytestmark = pytest.mark.slow  # a fit or a device that is pretended, in most of them

POINTS = (HookPoint(0), HookPoint(1, "attn_out"), HookPoint(2, "mlp_out"), HookPoint(2))
PROMPTS = tiny.random_rows([7, 9, 9, 5])
OPTIONS = [[11, 12], [13, 14, 15], [11, 12], [16, 17]]
ANSWERS = [[[11, 12], [13, 14, 15]], [[11], [12, 13]], [[20, 21, 22], [23]], [[24, 25], [26, 27]]]


@pytest.fixture(scope="module", params=[True, False], ids=["tied head", "untied head"])
def plain(request):
    config = tiny.CONFIGS["llama"]()
    config.tie_word_embeddings = request.param
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = type(tiny.new_model("llama"))(config).eval()
    return OpenModel(model, tiny.tokenizer(), "tiny", anatomy(model))


@pytest.fixture
def split(plain):
    with pretend_machine(2) as record:
        made = split_over_two(plain)
        record.clear()
        yield made
        assert not [event for event in record.events if event.ours and event.kind == DOUBLE]


def close(ours, theirs):
    torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-4, atol=1e-4)


def test_the_halves_lie_on_different_devices(split):
    places = [next(block.parameters()).device.index for block in split.parts.blocks]
    assert places == [0, 1, 1]
    tied = split.model.config.tie_word_embeddings
    assert split.model.lm_head.weight.device.index == (0 if tied else 1)


def test_it_can_branch(split):
    assert branch_fault(split) is None


@pytest.mark.parametrize("read", ["last", "mean"])
def test_activations_are_the_same(plain, split, read):
    asked = [*PROMPTS, *((*(5, 6, 7) * 10, *p) for p in PROMPTS)]
    rows = [Row(prompt + tail, len(prompt)) for prompt in asked for tail in ((11, 12), (13,))]
    ours, theirs = (capture(one, rows, POINTS, read=read) for one in (split, plain))
    for point in POINTS:
        close(ours[point], theirs[point])


def test_scores_are_the_same(plain, split):
    shared = [(*(5, 6, 7) * 10, *p) for p in PROMPTS]  # long enough to be run apart
    for scores in (
        lambda one: option_logprobs(one, PROMPTS, OPTIONS),
        lambda one: unsteered_options(one, shared, OPTIONS),
        lambda one: unsteered_answers(one, shared, ANSWERS),
    ):
        close(torch.cat(scores(split)), torch.cat(scores(plain)))
    rows = [Row(p + tuple(a), len(p)) for p, mine in zip(PROMPTS, ANSWERS, strict=True) for a in mine]
    (ours, first), (theirs, likeliest) = (answer_sums(one, rows) for one in (split, plain))
    close(ours, theirs)
    assert first.tolist() == likeliest.tolist()


@pytest.mark.parametrize("point", POINTS, ids=str)
@pytest.mark.parametrize("operator", ["add", "rotate"])
def test_cells_of_a_grid_are_the_same(plain, split, point, operator):
    direction = torch.linspace(-1, 1, tiny.WIDTH)
    cells = [GridCell(point, direction, strength, operator) for strength in (0.0, 0.5, 2.0)]
    batch = padded(PROMPTS, pad=0)
    meant = torch.zeros(batch.tokens.shape, dtype=torch.bool)
    meant[:, -3:] = batch.mask[:, -3:].bool()
    after = torch.ones(len(PROMPTS), 3, dtype=torch.bool)
    close(*(grid_scores(one, batch, OPTIONS, cells, meant) for one in (split, plain)))
    close(*(grid_answer_scores(one, batch, ANSWERS, cells, meant, after) for one in (split, plain)))


def test_steered_texts_are_the_same(plain, split):
    plans = [
        (Intervention(tiny.vector(0, 2), 1.5),),
        (Intervention(tiny.vector(1), 2.0, scope=Scope("generated")),),
        (),
        (Intervention(tiny.vector(2), -1.0, scope=Scope("last")), Intervention(tiny.vector(0), 0.3, operator="rotate")),
    ]
    ours, theirs = (continuation_tokens(one, PROMPTS, plans, Sampling(6)) for one in (split, plain))
    assert ours == theirs


def test_a_whole_fit_on_two_devices_gives_the_cpus_result():
    small = tillerman.Experiment(
        **{"max_train": 24, "max_validation": 8, "max_test": 8, "null_draws": 2, "layers": (1, 4), "doses": (0.2, 1.0)},
        max_kl=None,
        max_perplexity_ratio=None,
        neutral="sample:tinystories",
        neutral_tokens=256,
        unrelated_items=4,
        generations=("Tell me a story.",),
        generation_tokens=3,
        shots=2,
    )
    data = tillerman.load_examples("sample:interest-in-science", limit=100)
    pilot = tillerman.open_model("pilot")
    theirs = tillerman.fit(small, pilot, data).log
    with pretend_machine(2) as record:
        ours = tillerman.fit(replace(small), split_over_two(pilot), data).log
        assert not [event for event in record.events if event.ours and event.kind == DOUBLE]
    assert (ours.hook_point, ours.scope) == (theirs.hook_point, theirs.scope)
    assert [c.name for c in ours.conditions] == [c.name for c in theirs.conditions]
    assert [c.rate for c in ours.conditions] == [c.rate for c in theirs.conditions]
