"""Whether an autoencoder belongs to a model is measured, and absurd figures are refused with the reasons."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests import sae_files as made

from tillerman.core.errors import FitError, HookPointError, MismatchError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Row
from tillerman.models.capture import capture
from tillerman.models.sae.latents import read_latents
from tillerman.models.sae.quality import ensure_belongs, quality
from tillerman.models.tokens import token_activations

from .. import tiny

P = HookPoint(1)
ROWS = [Row(t, 2) for t in tiny.random_rows([4, 9, 3, 6, 5])]


def _one_by_one(opened, rows, point, start):
    """Every token as the last one of its own row."""
    return [
        capture(opened, [Row(row.tokens[: k + 1]) for k in range(start(row), len(row.tokens))], [point])[point]
        for row in rows
    ]


@pytest.mark.parametrize("point", [P, HookPoint(1, "resid_pre"), HookPoint(0, "mlp_out"), HookPoint(2, "heads")])
def test_tokens_are_read_one_by_one_from_where_a_row_is_read(opened, point):
    wanted = _one_by_one(opened, ROWS, point, lambda row: row.read_from)
    got = [[] for _ in ROWS]
    for owners, values in token_activations(opened, ROWS, point):
        for row, value in zip(owners.tolist(), values, strict=True):
            got[row].append(value)
    for mine, theirs in zip(got, wanted, strict=True):
        assert torch.allclose(torch.stack(mine), theirs, atol=1e-5)


def test_the_first_token_is_left_out_whatever_a_row_says(opened):
    rows = [Row(row.tokens) for row in ROWS]
    counts = torch.zeros(len(rows), dtype=torch.long)
    for owners, _ in token_activations(opened, rows, P):
        counts += owners.bincount(minlength=len(rows))
    assert counts.tolist() == [len(row.tokens) - 1 for row in rows]


@pytest.mark.parametrize("read", ["last", "mean"])
def test_latents_are_encoded_token_by_token_before_they_are_pooled(opened, read):
    sae = made.orthogonal(tiny.WIDTH, 20, threshold=0.3)
    start = (lambda row: len(row.tokens) - 1) if read == "last" else (lambda row: row.read_from)
    wanted = [sae.encode(h) for h in _one_by_one(opened, ROWS, P, start)]
    got = read_latents(opened, sae, ROWS, read=read)
    assert torch.allclose(got.mean, torch.stack([a.mean(0) for a in wanted]), atol=1e-5)
    assert torch.allclose(got.peak, torch.stack([a.amax(0) for a in wanted]), atol=1e-5)
    if read == "mean":  # encoding the mean is another thing
        means = capture(opened, ROWS, [P], read="mean")[P]
        assert not torch.allclose(got.mean, sae.encode(means), atol=1e-2)


def test_a_row_of_one_token_cannot_be_read(opened):
    with pytest.raises(FitError, match="a row of one token cannot be read through an autoencoder"):
        read_latents(opened, made.orthogonal(tiny.WIDTH, 4), [Row((5,))], read="mean")


def test_the_figures_are_those_of_the_definition(opened):
    sae = made.orthogonal(tiny.WIDTH, 20, threshold=0.3)
    h = torch.cat(_one_by_one(opened, ROWS, P, lambda row: row.read_from)).double()
    found = quality(opened, sae, ROWS)
    latents = sae.encode(h)
    left = (h - sae.reconstruct(h)).square().sum() / (h - h.mean(0)).square().sum()
    assert found.tokens == len(h)
    assert found.l0 == pytest.approx(float((latents != 0).sum(1).double().mean()), rel=1e-5)
    assert found.unexplained == pytest.approx(float(left), rel=1e-4)
    assert found.silent == pytest.approx(float((latents == 0).all(0).double().mean()), abs=1e-6)


def _wide():
    """Explains everything, and as many atoms again that never fire: the active ones are a quarter."""
    sae = made.basis(tiny.WIDTH)
    return replace(
        sae,
        w_enc=torch.cat([sae.w_enc, 0 * sae.w_enc], 1),
        w_dec=torch.cat([sae.w_dec, sae.w_dec]),
        activation=replace(sae.activation, bias=torch.zeros(128), threshold=torch.zeros(128)),
    )


def test_an_autoencoder_that_explains_everything_belongs(opened):
    found = ensure_belongs(opened, _wide(), ROWS)
    assert found.unexplained < 1e-6 and found.l0 == pytest.approx(tiny.WIDTH)


SILENT = replace(_wide(), activation=replace(_wide().activation, threshold=torch.full((128,), 1e6)))


@pytest.mark.parametrize(
    ("sae", "figure"),
    [
        (SILENT, "L0 0.0"),
        (made.basis(tiny.WIDTH), "L0 32.0, unexplained variance 0.00"),  # half of all atoms at every token
        (replace(_wide(), w_dec=30 * _wide().w_dec), r"L0 32.0, unexplained variance \d{3}"),  # another scale
    ],
)
def test_absurd_figures_are_refused_with_the_likely_reasons(opened, sae, figure):
    with pytest.raises(MismatchError, match=f"{figure}.*another model, layer or site, or for activations scaled"):
        ensure_belongs(opened, sae, ROWS)


def test_another_width_or_layer_is_refused_before_anything_runs(opened):
    with pytest.raises(MismatchError, match="reads activations of width 8, the model has width 32"):
        quality(opened, made.orthogonal(8, 4), ROWS)
    with pytest.raises(HookPointError, match=r"layers.9"):
        quality(opened, made.basis(tiny.WIDTH, layer=9), ROWS)
