"""From a contrast set to activations: the right rows on the right side, read at the right site."""

from __future__ import annotations

import pytest
import torch

from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import ContrastSet, Row
from tillerman.core.store import Store
from tillerman.methods.reading import read_activations
from tillerman.models.capture import capture

from .. import tiny

ROWS = tuple(Row(t, 1) for t in tiny.random_rows([4, 6, 3, 5, 7]))
POINTS = (HookPoint(0), HookPoint(2))


@pytest.mark.parametrize("read", ["last", "mean"])
@pytest.mark.parametrize("site", ["resid_post", "resid_pre"])
def test_each_side_holds_its_own_rows_read_at_the_site_asked_for(opened, read, site):
    contrast = ContrastSet(ROWS[:2], ROWS[2:], paired=False)
    got = read_activations(opened, contrast, POINTS, read_site=site, read=read, stored=(Store(None, ""), "k"))
    for point in POINTS:
        source = HookPoint(point.layer, site)
        plain = capture(opened, ROWS, [source, point], read=read)
        assert torch.allclose(got.positive[point], plain[source][:2], atol=1e-5)
        assert torch.allclose(got.negative[point], plain[source][2:], atol=1e-5)
        # the dose is about where the vector is added
        assert got.stream_norms[point] == pytest.approx(float(plain[point].norm(dim=-1).mean()), rel=1e-5)
    assert not got.paired


def test_a_capture_is_stored_under_its_name_and_not_run_again(opened, tmp_path):
    contrast = ContrastSet(ROWS[:2], ROWS[2:4], paired=True)
    runs = []
    for _ in range(2):
        store, done = Store(tmp_path / "run", "key"), []
        got = read_activations(opened, contrast, POINTS, read_site="resid_post", read="last", stored=(store, "c"),
                               progress=done.append)  # fmt: skip
        store.close(finished=False)
        runs.append((got, sum(done)))
    assert [n for _, n in runs] == [4, 0]
    assert torch.equal(runs[0][0].positive[POINTS[1]], runs[1][0].positive[POINTS[1]])
    assert runs[1][0].paired
