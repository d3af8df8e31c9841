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
from tillerman.methods.adaptive import Dsas, Ids
from tillerman.methods.alphasteer import AlphaSteer, _benign_rows, _wanted_rows
from tillerman.methods.base import Context
from tillerman.methods.fit import Activations, shuffled
from tillerman.methods.spherical import Spherical
from tillerman.methods.transport import LinearAct

from .. import tiny

P, Q = HookPoint(0), HookPoint(1)
D = 12


def planted(seed: int = 0, n: int = 20, rank: int = 5):
    """Benign tokens of a low rank, and tokens of both sides that have more."""
    drawn = torch.Generator().manual_seed(seed)
    benign = torch.randn(80, rank, generator=drawn) @ torch.randn(rank, D, generator=drawn)
    u, gap = torch.randn(D, generator=drawn), torch.randn(D, generator=drawn)
    positive, negative = (
        benign[:n] + 2 * u + sign * gap / 2 + 0.1 * torch.randn(n, D, generator=drawn) for sign in (1, -1)
    )
    sides = Activations({P: positive}, {P: negative}, {P: 3.0}, paired=True)
    return sides, torch.cat([positive, negative]), benign[:60], benign[60:]


def made(method: AlphaSteer, seed: int = 0, rank: int = 5):
    sides, *tokens = planted(seed, rank=rank)
    return method.made(sides, {P: method.reader(*tokens, P)}, tiny.provenance(width=D, method=method.name))


@pytest.mark.parametrize("seed", range(3))
def test_benign_tokens_stay_and_the_answers_get_the_vector_of_caa(seed):
    (sides, wanted, *benign), steering = planted(seed), made(AlphaSteer(ridge=1e-4), seed)
    gap = sides.positive[P].mean(0) - sides.negative[P].mean(0)
    for side in benign:  # the held-out ones lie in the same few directions
        assert float(steering.change(P, side).norm(dim=1).max()) < 1e-3 * float(gap.norm())
    torch.testing.assert_close(steering.weights(P, wanted), torch.ones(len(wanted), 1), atol=0.2, rtol=0)
    torch.testing.assert_close(steering.values[P][0], gap, atol=1e-4, rtol=1e-4)
    assert steering.norm(P) == pytest.approx(float(steering.change(P, wanted).norm(dim=1).mean()), rel=1e-4)
    line, warning = AlphaSteer().report(steering.provenance.found)
    assert "they say nothing of chats" in warning
    assert "sample:tinystories that it was not fitted on: layers.0.resid_post 1.00, 0.00" in line


@pytest.mark.parametrize("n", [4, 20])
def test_it_is_the_matrix_of_the_paper(n):
    """``argmin |M P H - R|^2 + a |M P|^2``, R the same vector in every column, by the closed form over d x d."""
    (sides, wanted, known, held_out), method = planted(n=n, rank=D), AlphaSteer(null_space=0.5, ridge=0.3)
    steering = method.made(sides, {P: method.reader(wanted, known, held_out, P)}, tiny.provenance(width=D))
    rows, benign = wanted.double().T, known.double().T  # d x n, as in the paper
    null = torch.linalg.eigh(benign @ benign.T)[1][:, : D // 2]
    project = null @ null.T
    a = 0.3 * float((project @ rows).square().sum())
    refusal = steering.values[P].double().T @ torch.ones(1, rows.shape[1]).double()
    inner = project @ rows @ rows.T @ project + a * project @ project.T
    matrix = refusal @ rows.T @ project @ torch.linalg.pinv(inner, rtol=1e-10) @ project
    h = torch.randn(7, D, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(steering.change(P, h), (matrix @ h.double().T).T.float(), rtol=1e-3, atol=1e-4)


def test_tokens_that_are_all_alike_are_read_as_the_ridge_says():
    _, _, known, held_out = planted()
    row = torch.randn(D, generator=torch.Generator().manual_seed(3))
    for ridge in (0.01, 1.0):
        for n in (6, 30):
            reader = AlphaSteer(ridge=ridge).reader(row.expand(n, D), known, held_out, P)
            assert reader.steered == pytest.approx(1 / (1 + ridge), rel=1e-5)


def test_a_larger_share_of_directions_leaves_less_alone():
    _, wanted, known, held_out = planted(rank=D)
    few, all_of_them = (AlphaSteer(null_space=share).reader(wanted, known, held_out, P) for share in (0.2, 1.0))
    assert few.held_out < 0.7 * all_of_them.held_out


def test_both_nulls_keep_the_reader():
    (sides, *tokens), steering = planted(), made(AlphaSteer())
    null = AlphaSteer().made(shuffled(sides, 3), {P: AlphaSteer().reader(*tokens, P)}, tiny.provenance(width=D))
    torch.testing.assert_close(null.keys[P], steering.keys[P])
    assert float(null.values[P].norm()) < 0.7 * float(steering.values[P].norm())
    random, h = steering.random_like(1), sides.negative[P]
    torch.testing.assert_close(random.change(P, h).norm(dim=1), steering.change(P, h).norm(dim=1))
    assert abs(float(torch.cosine_similarity(random.values[P], steering.values[P]))) < 0.95


def lesson(opened) -> Context:
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


def test_it_reads_every_token_of_answers_and_texts_and_holds_one_text_in_five_out(texts, monkeypatch):
    opened = tiny.opened()
    context, method = lesson(opened), AlphaSteer(benign=str(texts), null_space=1.0, ridge=1.0)  # well conditioned
    wanted = _wanted_rows(context, 3000)
    for item, written in zip(context.items, context.written, strict=True):
        for answer in written.answers:
            expected = {written.prompt + answer[:k] for k in range(len(answer) + 1)}
            assert {row.tokens for row in wanted} >= expected
        assert item.right in (0, 1)
    assert len(_wanted_rows(context, 16)) < len(wanted)
    benign, out = _benign_rows(context, json.loads(texts.read_text()), 3000)
    whole = max(benign, key=lambda row: len(row.tokens)).tokens
    assert {row.tokens for row in benign} >= {whole[:k] for k in range(1, len(whole) + 1)}
    assert benign[0].tokens == context.written[0].prompt[:1] and not bool(out[0])
    assert int(out.sum()) == pytest.approx(len(benign) / 5, rel=0.1)

    def states(rows, point):
        h = [tiny.hidden_states(opened.model, torch.tensor([row.tokens]))[point.layer + 1][0, -1] for row in rows]
        return torch.stack(h).detach()

    readers = method.readers(context)
    for point in (P, Q):
        plain = states(benign, point)
        one = method.reader(states(wanted, point), plain[~out], plain[out], point)
        torch.testing.assert_close(readers[point].w, one.w, rtol=1e-3, atol=1e-4)
        assert readers[point].held_out == pytest.approx(one.held_out, rel=1e-3)
    monkeypatch.setattr("tillerman.models.capture.AT_ONCE", 1)  # one hook point in a pass
    alone, fitted = method.readers(context), method.fitted(context)
    for p in (P, Q):
        torch.testing.assert_close(alone[p].w, readers[p].w, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(fitted.shuffled(1).keys[p], fitted.vector.keys[p])
        torch.testing.assert_close(method.fit(context).keys[p], fitted.vector.keys[p])


def test_other_texts_under_the_same_name_are_another_run(texts):
    method = AlphaSteer(benign=str(texts))
    before = method.sources()
    texts.write_text(texts.read_text().replace("cat", "cow"))
    assert method.sources() != before


def test_what_it_cannot_be_fitted_on_is_named(tmp_path):
    context = lesson(tiny.opened())
    few = tmp_path / "few.txt"
    few.write_text("one text\n\nand another\n")
    with pytest.raises(FitError, match="2 texts to leave alone; it needs 5 or more"):
        AlphaSteer(benign=str(few)).fit(context)
    _, _, known, held_out = planted()
    with pytest.raises(
        FitError, match=r"at layers\.0\.resid_post have nothing in the directions that sample:tinystories"
    ):
        AlphaSteer(null_space=0.5).reader(known[:10], known, held_out, P)


def test_what_reads_the_activation_it_changes_is_not_fitted_on_another():
    context = replace(lesson(tiny.opened()), read_site="resid_pre")
    for method in (Dsas(), Ids(), LinearAct(), Spherical()):
        with pytest.raises(FitError, match=r"changes \(layers\.0\.resid_post\), and the run reads resid_pre"):
            method.fit(context)


def test_what_it_learns_to_leave_alone_cannot_measure_what_it_costs():
    with pytest.raises(UsageError, match="leave sample:wikitext alone, which says nothing of other text"):
        Experiment(method="alphasteer:benign=sample:wikitext")
    Experiment(method="alphasteer")
