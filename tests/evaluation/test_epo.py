"""The search by itself, on objectives without a model."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from tillerman.core.errors import UsageError
from tillerman.evaluation.epo import AT_ONCE, EpoOptions, FoundText, optimise, pareto, random_texts, spread, try_texts

VOCAB, WIDTH = 40, 5


@dataclass
class Planted:
    """f counts how much of a target stands in the text, X is the mean of fixed costs: both known everywhere."""

    width: int = WIDTH
    seen: list = field(default_factory=list)

    def __post_init__(self):
        rng = torch.Generator().manual_seed(7)
        self.gain = torch.randn(self.width, VOCAB, generator=rng)
        self.cost = torch.rand(VOCAB, generator=rng) * 5
        self.allowed = torch.arange(VOCAB) >= 3

    def scores(self, tokens):
        self.seen += tokens.tolist()
        return self.gain[torch.arange(self.width), tokens].sum(1), self.cost[tokens].mean(1)

    def gradient(self, tokens, weights):
        return self.gain[None] - weights[:, None, None] * self.cost / self.width

    def survives(self, tokens):
        return (tokens != 11).all(1)  # token 11 does not come back from decoding


def options(**more):
    return EpoOptions(**{"weights": spread(4), "iterations": 30, "children": 16, "top": 10, "restart": 8, **more})


def test_weights_are_evenly_apart_by_logarithm_from_a_tenth_to_ten():
    found = torch.tensor(spread(8))
    assert torch.allclose(found[[0, -1]], torch.tensor([0.1, 10.0]))
    assert torch.allclose(found.log().diff(), found.log().diff()[:1])


def test_the_search_finds_the_best_text_of_a_planted_objective():
    planted = Planted()
    best = planted.gain.masked_fill(~planted.allowed, -torch.inf).clone()
    best[:, 11] = -torch.inf
    found = optimise(planted, options(iterations=60), seed=0)
    assert found.records[-1].value == pytest.approx(float(best.amax(1).sum()))
    assert found.records[-1].tokens == tuple(best.argmax(1).tolist())


def test_the_same_seed_gives_the_same_search_and_another_seed_another():
    assert optimise(Planted(), options(), seed=1) == optimise(Planted(), options(), seed=1)
    assert optimise(Planted(), options(), seed=1) != optimise(Planted(), options(), seed=2)


def test_no_text_of_the_front_is_beaten_in_both_by_any_text_tried():
    planted = Planted()
    found = optimise(planted, options(), seed=0)
    f, x = Planted().scores(torch.tensor(planted.seen))
    for one in found.front:
        beaten = (f >= one.value) & (x <= one.cross_entropy) & ((f > one.value) | (x < one.cross_entropy))
        assert not bool(beaten.any())
    assert len(found.front) > 2


def test_every_text_tried_that_nothing_beats_is_on_the_front():
    planted = Planted()
    found = optimise(planted, options(iterations=5), seed=0)
    f, x = Planted().scores(torch.tensor(planted.seen))
    for tokens, value, entropy in zip(planted.seen, f, x, strict=True):
        beaten = (f >= value) & (x <= entropy) & ((f > value) | (x < entropy))
        if not bool(beaten.any()):
            assert tuple(tokens) in {one.tokens for one in found.front}


def test_texts_that_do_not_come_back_from_decoding_are_never_tried():
    planted = Planted()
    found = optimise(planted, options(), seed=0)
    assert found.refused > 0
    assert not any(11 in tokens for tokens in planted.seen)


def test_tokens_that_are_not_allowed_are_never_tried():
    planted = Planted()
    optimise(planted, options(top=VOCAB), seed=0)
    assert min(min(tokens) for tokens in planted.seen) >= 3


def test_children_differ_from_a_member_in_one_token_among_the_best_there():
    planted = Planted()
    optimise(planted, options(weights=(0.0,), iterations=1, top=4), seed=0)
    parent, *children = planted.seen
    best = planted.gain.masked_fill(~planted.allowed, -torch.inf).topk(4, dim=1).indices
    for child in children:
        changed = [k for k in range(WIDTH) if child[k] != parent[k]]
        assert len(changed) <= 1
        assert all(child[k] in best[k] for k in changed)
    assert len({next((k for k in range(WIDTH) if c[k] != parent[k]), None) for c in children}) > 2


def test_one_member_of_weight_0_is_greedy_coordinate_gradient():
    """The oracle keeps the best by f of a text and its one-token changes, drawn from the same numbers."""
    seed, planted, oracle = 3, Planted(), Planted()
    asked = options(weights=(0.0,), iterations=12)
    found = optimise(planted, asked, seed=seed)
    rng = torch.Generator().manual_seed(seed)
    known = oracle.allowed.nonzero()[:, 0]
    start = known[torch.randint(len(known), (4, WIDTH), generator=rng)]
    text = start[oracle.survives(start)][0]
    for step in range(1, asked.iterations + 1):
        top = oracle.gain.masked_fill(~oracle.allowed, -torch.inf).topk(asked.top, dim=1).indices
        places = torch.randint(WIDTH, (asked.children,), generator=rng)
        ranks = torch.randint(asked.top, (asked.children,), generator=rng)
        pool = [text]
        for place, rank in zip(places.tolist(), ranks.tolist(), strict=True):
            child = text.clone()
            child[place] = top[place, rank]
            if bool(oracle.survives(child[None])[0]):
                pool.append(child)
        values = oracle.scores(torch.stack(pool))[0]
        text = pool[int(values.argmax())]
        if step % asked.restart == 0:
            torch.randint(1, (1,), generator=rng)  # which of one weight
    assert found.records[-1].tokens == tuple(text.tolist())


def test_a_restart_makes_all_members_the_best_under_one_weight():
    class Watched(Planted):
        def gradient(self, tokens, weights):
            parents.append(tokens.clone())
            return super().gradient(tokens, weights)

    parents = []
    optimise(Watched(), options(iterations=9, restart=8), seed=0)
    assert len({tuple(row) for row in parents[7].tolist()}) > 1
    assert len({tuple(row) for row in parents[8].tolist()}) == 1


def test_a_score_that_is_not_a_number_is_never_kept():
    class Wrecked(Planted):
        def scores(self, tokens):
            f, x = super().scores(tokens)
            return torch.where(tokens[:, 0] % 2 == 0, torch.nan, f), x

    found = optimise(Wrecked(), options(), seed=0)
    assert all(one.tokens[0] % 2 for one in (*found.records, *found.front))


def test_records_count_the_texts_in_the_order_they_were_tried():
    planted = Planted()
    found = optimise(planted, options(), seed=0)
    assert found.tried == len(planted.seen)
    best = -torch.inf
    expected = []
    for place, value in enumerate(Planted().scores(torch.tensor(planted.seen))[0].tolist(), start=1):
        if value > best:
            best = value
            expected.append(place)
    assert [one.tried for one in found.records] == expected


def test_the_likeliest_text_above_a_value_is_the_first_of_the_front():
    front = pareto(
        [FoundText((k,), f, x, k) for k, (f, x) in enumerate([(1.0, 5.0), (-1.0, 1.0), (0.5, 2.0), (0.4, 3.0)])]
    )
    assert [one.tokens for one in front] == [(1,), (2,), (0,)]


def test_a_tokenizer_that_gives_nothing_back_is_refused():
    class Hopeless(Planted):
        def survives(self, tokens):
            return torch.zeros(len(tokens), dtype=torch.bool)

    with pytest.raises(UsageError, match="unchanged after decoding"):
        optimise(Hopeless(), options(), seed=0)


def test_given_texts_end_where_one_is_enough_and_nothing_else_changes():
    texts = random_texts(Planted(), 5 * AT_ONCE, torch.Generator().manual_seed(0))
    whole = try_texts(Planted(), texts)
    enough = whole.records[-2].value  # the last record alone is above it
    told, planted = [], Planted()
    found = try_texts(planted, texts, told.append, enough=enough)
    chunks = -(-whole.records[-1].tried // AT_ONCE)
    assert (found.tried, found.records) == (chunks * AT_ONCE, whole.records)
    assert planted.seen == texts[: chunks * AT_ONCE].tolist()
    assert chunks < 5  # else nothing was left out
    assert sum(told) == len(texts)


@pytest.mark.parametrize("wrong", [{"weights": ()}, {"weights": (-1.0,)}, {"iterations": 0}, {"top": 0}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match="expected at least"):
        EpoOptions(**wrong)
