"""AlphaSteer: what it leaves alone, what it reads, and that it is the paper's matrix."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from tillerman import Experiment
from tillerman.core.errors import FitError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.data.examples import Example
from tillerman.data.presenting import present
from tillerman.data.writing import make_writer
from tillerman.methods.activations import Reading
from tillerman.methods.alphasteer import AlphaSteer, _rows
from tillerman.methods.base import Context
from tillerman.methods.fit import Activations, shuffled

from .. import tiny

P, Q = HookPoint(1), HookPoint(2)
D = 12


def planted(seed: int = 0, n: int = 20, rank: int = 5):
    """Benign tokens of a low rank, and rows of both sides that have more."""
    drawn = torch.Generator().manual_seed(seed)
    benign = torch.randn(80, rank, generator=drawn) @ torch.randn(rank, D, generator=drawn)
    u, gap = torch.randn(D, generator=drawn), torch.randn(D, generator=drawn)
    positive, negative = (
        benign[:n] + 2 * u + sign * gap / 2 + 0.1 * torch.randn(n, D, generator=drawn) for sign in (1, -1)
    )
    sides = Activations({P: positive}, {P: negative}, {P: 3.0}, paired=True)
    return sides, {P: (benign[:60], benign[60:])}


def made(method: AlphaSteer, seed: int = 0):
    return method.made(*planted(seed), tiny.provenance(width=D, method=method.name))


@pytest.mark.parametrize("seed", range(3))
def test_benign_tokens_stay_and_the_rows_of_both_sides_get_the_vector_of_caa(seed):
    (sides, benign), steering = planted(seed), made(AlphaSteer(ridge=1e-4), seed)
    gap = sides.positive[P].mean(0) - sides.negative[P].mean(0)
    for side in benign[P]:  # the held-out ones lie in the same few directions
        assert float(steering.change(P, side).norm(dim=1).max()) < 1e-3 * float(gap.norm())
    for side in (sides.positive[P], sides.negative[P]):
        torch.testing.assert_close(steering.weights(P, side), torch.ones(len(side), 1), atol=0.2, rtol=0)
    torch.testing.assert_close(steering.values[P][0], gap, atol=1e-4, rtol=1e-4)
    (line,) = AlphaSteer().report(steering.provenance.found)
    assert "sample:tinystories that it was not fitted on: layers.1.resid_post 1.00, 0.00" in line


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_matrix_of_the_paper(seed):
    """``argmin |M P H - R|^2 + a |M P|^2``, R the same vector in every column, by the closed form over d x d."""
    (sides, benign), method = planted(seed, rank=D), AlphaSteer(null_space=0.5, ridge=0.3)
    steering = method.made(sides, benign, tiny.provenance(width=D))
    rows = torch.cat([sides.positive[P], sides.negative[P]]).double().T  # d x n, as in the paper
    known = benign[P][0].double().T
    sizes, vectors = torch.linalg.eigh(known @ known.T)
    null = vectors[:, : D // 2]
    project = null @ null.T
    a = 0.3 * float((project @ rows).square().sum())
    wanted = steering.values[P].double().T @ torch.ones(1, rows.shape[1]).double()
    inner = project @ rows @ rows.T @ project + a * project @ project.T
    matrix = wanted @ rows.T @ project @ torch.linalg.pinv(inner, rtol=1e-10) @ project
    h = torch.randn(7, D, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(steering.change(P, h), (matrix @ h.double().T).T.float(), rtol=1e-3, atol=1e-4)
    assert float(sizes[0]) >= -1e-9


def test_rows_that_are_all_alike_are_read_as_the_ridge_says():
    _, benign = planted()
    row = torch.randn(D, generator=torch.Generator().manual_seed(3))
    for ridge in (0.01, 1.0):
        w = AlphaSteer(ridge=ridge).reader(row.double().expand(6, D), benign[P][0].double(), P)
        assert float(row.double() @ w) == pytest.approx(1 / (1 + ridge), rel=1e-6)


def test_a_larger_share_of_directions_leaves_less_alone():
    sides, benign = planted(rank=D)

    def moved(share: float) -> float:
        steering = AlphaSteer(null_space=share).made(sides, benign, tiny.provenance(width=D))
        return float(steering.weights(P, benign[P][1]).square().mean())

    assert moved(0.2) < 0.5 * moved(1.0)


def test_both_nulls_keep_the_reader():
    (sides, benign), steering = planted(), made(AlphaSteer())
    null = AlphaSteer().made(shuffled(sides, 3), benign, tiny.provenance(width=D))
    torch.testing.assert_close(null.keys[P], steering.keys[P])
    assert float(null.values[P].norm()) < 0.7 * float(steering.values[P].norm())
    random, h = steering.random_like(1), sides.negative[P]
    torch.testing.assert_close(random.change(P, h).norm(dim=1), steering.change(P, h).norm(dim=1))
    assert abs(float(torch.cosine_similarity(random.values[P], steering.values[P]))) < 0.95


def lesson(opened, file) -> Context:
    items = present([Example("preference", f"Which {i}?", ("the cat sat", "a dog"), 0) for i in range(4)])
    writer = make_writer(opened.tokenizer)
    drawn = torch.Generator().manual_seed(0)
    d = opened.parts.width_at(P)
    one, two = ({p: torch.randn(4, d, generator=drawn) for p in (P, Q)} for _ in range(2))
    sides = Reading(Activations(one, two, {P: 1.0, Q: 1.0}, paired=True), {})
    return Context(opened, items, tuple(map(writer.write, items)), writer, (P, Q), tiny.provenance(), sides=sides)


@pytest.fixture
def texts(tmp_path):
    file = tmp_path / "benign.json"
    file.write_text(json.dumps([f"the {w} lay in the sun by the river" for w in ("cat", "dog", "mat", "hat", "bat")]))
    return file


def test_it_reads_every_token_of_the_texts_and_holds_one_text_in_five_out(texts):
    opened = tiny.opened()
    context, method = lesson(opened, texts), AlphaSteer(benign=str(texts))
    rows, out = _rows(context, json.loads(texts.read_text()), 3000)
    whole = max(rows, key=lambda row: len(row.tokens)).tokens
    assert {row.tokens for row in rows} >= {whole[:k] for k in range(1, len(whole) + 1)}
    assert rows[0].tokens == context.written[0].prompt[:1] and not bool(out[0])
    fitted = method.fitted(context)
    h = tiny.hidden_states(opened.model, torch.tensor([rows[5].tokens]))[P.layer + 1][0, -1].detach()
    benign = method._benign(context)
    assert len(benign[P][0]) + len(benign[P][1]) == len(rows) and len(benign[P][1]) == int(out.sum())
    torch.testing.assert_close(benign[P][0][5], h, rtol=1e-4, atol=1e-4)
    again = method.fit(context)
    assert all(torch.equal(again.keys[p], fitted.vector.keys[p]) for p in (P, Q))
    torch.testing.assert_close(fitted.shuffled(1).keys[P], again.keys[P])


def test_other_texts_under_the_same_name_are_another_run(texts):
    method = AlphaSteer(benign=str(texts))
    before = method.sources()
    texts.write_text(texts.read_text().replace("cat", "cow"))
    assert method.sources() != before


def test_what_it_cannot_be_fitted_on_is_named(texts, tmp_path):
    context = lesson(tiny.opened(), texts)
    few = tmp_path / "few.txt"
    few.write_text("one text\n\nand another\n")
    with pytest.raises(FitError, match="2 texts to leave alone; it needs 5 or more"):
        AlphaSteer(benign=str(few)).fit(context)
    with pytest.raises(FitError, match=r"changes \(layers\.1\.resid_post\), and the run reads resid_pre"):
        AlphaSteer(benign=str(texts)).fit(replace(context, read_site="resid_pre"))
    _, benign = planted()
    inside = Activations({P: benign[P][0][:5]}, {P: benign[P][0][5:10]}, {P: 1.0}, paired=True)
    with pytest.raises(FitError, match="have nothing in the directions that sample:tinystories does not use"):
        AlphaSteer(null_space=0.5).made(inside, benign, tiny.provenance(width=D))


def test_what_it_learns_to_leave_alone_cannot_measure_what_it_costs():
    with pytest.raises(UsageError, match="leave sample:wikitext alone, which says nothing of other text"):
        Experiment(method="alphasteer:benign=sample:wikitext")
    Experiment(method="alphasteer")
