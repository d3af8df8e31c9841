"""The contract of every method (pairing x estimator), and each estimator against an independent oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import optimize

from tillerman.core.artefact import Artefact, load, save
from tillerman.core.cell import Cell
from tillerman.core.errors import FitError, UnknownNameError
from tillerman.core.hookpoint import HookPoint
from tillerman.methods.contrast import EstimatedMethod
from tillerman.methods.estimators import ESTIMATORS, estimate
from tillerman.methods.fit import Activations, fit, shuffled
from tillerman.methods.registry import GROUPS, METHODS, method, methods

from .. import tiny

D = 24
P, Q = HookPoint(0), HookPoint(1)
PAIRED = {
    "caa": True,
    "pas-full": False,
    "ipas-all": False,
    "ipas-wrong": True,
    "prompt-vector": True,
    "prompt-contrast": True,
}
every = pytest.mark.parametrize("name", [f"{p}+{e}" for p in PAIRED for e in ESTIMATORS])


def _planted(paired, seed=0, n=150, gap=2.0, noise=0.4):
    """Sides that differ by ``gap`` along one direction; paired rows share what they have in common."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(D, generator=generator)
    direction /= direction.norm()
    common = torch.randn(n, D, generator=generator)
    m = n if paired else n - 7
    other = common if paired else torch.randn(m, D, generator=generator) * noise
    common = common if paired else common * noise
    positive = common + gap / 2 * direction + noise * torch.randn(n, D, generator=generator)
    negative = other - gap / 2 * direction + noise * torch.randn(m, D, generator=generator)
    sides = {P: positive, Q: 2 * positive}, {P: negative, Q: 2 * negative}
    return Activations(*sides, {P: 1.0, Q: 2.0}, paired), direction


def _swapped(a):
    return Activations(a.negative, a.positive, a.stream_norms, a.paired)


def _fit(name, activations):
    return method(name).vector(activations, tiny.provenance(width=D, method=name))


def _for(name, **more):
    return _planted(PAIRED[method(name).name], **more)


def test_every_pairing_is_in_the_contract():
    takers = {name for name, kind in METHODS.items() if issubclass(kind, EstimatedMethod)}
    assert takers - {"ablation", "angular", "spherical", "target-cosine"} == set(PAIRED)


@every
@pytest.mark.parametrize("seed", range(3))
def test_a_planted_direction_is_recovered(name, seed):
    activations, direction = _for(name, seed=seed)
    vector = _fit(name, activations)
    for point in (P, Q):
        found = vector.directions[point]
        assert float(found @ direction / found.norm()) > 0.9
    assert vector.norm(P) == pytest.approx(2.0, rel=0.25)  # as long as the gap along it
    assert vector.norm(Q) == pytest.approx(2 * vector.norm(P), rel=1e-3)


@every
def test_the_sign_flips_when_the_sides_are_swapped(name):
    activations, _ = _for(name)
    there, back = _fit(name, activations), _fit(name, _swapped(activations))
    for point in (P, Q):
        assert torch.allclose(there.directions[point], -back.directions[point], atol=1e-4)


@every
def test_the_inputs_are_left_as_they_are_and_the_same_input_gives_the_same_vector(name):
    activations, _ = _for(name)
    copies = [t.clone() for side in (activations.positive, activations.negative) for t in side.values()]
    state = torch.random.get_rng_state()
    one, two = _fit(name, activations), _fit(name, activations)
    now = [t for side in (activations.positive, activations.negative) for t in side.values()]
    assert all(torch.equal(a, b) for a, b in zip(copies, now, strict=True))
    assert all(torch.equal(one.directions[p], two.directions[p]) for p in (P, Q))
    assert torch.equal(torch.random.get_rng_state(), state)


@every
def test_identical_sides_are_refused_with_the_remedy(name):
    activations, _ = _for(name)
    same = Activations(activations.positive, activations.positive, activations.stream_norms, activations.paired)
    with pytest.raises(FitError, match="check that the labels differ"):
        _fit(name, same)


@every
@pytest.mark.parametrize("side", ["positive", "negative"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_refused_at_any_point(name, side, bad):
    activations, _ = _for(name)
    broken = {p: t.clone() for p, t in getattr(activations, side).items()}
    broken[Q][3, 5] = bad
    sides = {"positive": activations.positive, "negative": activations.negative, side: broken}
    with pytest.raises(FitError, match=f"the {side} side has activations that are not finite.*float32"):
        _fit(name, Activations(**sides, stream_norms=activations.stream_norms, paired=activations.paired))


@every
@pytest.mark.parametrize("side", ["positive", "negative"])
def test_an_empty_side_is_refused(name, side):
    activations, _ = _for(name)
    empty = {p: t[:0] for p, t in getattr(activations, side).items()}
    sides = {"positive": activations.positive, "negative": activations.negative, side: empty}
    with pytest.raises(FitError, match=f"the {side} side is empty"):
        _fit(name, Activations(**sides, stream_norms=activations.stream_norms, paired=False))


@every
def test_a_fitted_vector_is_saved_and_loaded_to_the_same_numbers(name, tmp_path):
    vector = _fit(name, _for(name)[0])
    save(tmp_path / "v.safetensors", Artefact(vector, Cell.of(vector)))
    back = load(tmp_path / "v.safetensors").steering
    assert back.provenance.method == name
    for point in vector.points:
        assert torch.equal(back.directions[point], vector.directions[point])


def test_points_where_nothing_tells_the_sides_apart_are_left_out():
    activations, _ = _planted(True)
    same = {P: activations.positive[P], Q: activations.negative[Q]}
    vector = fit(
        Activations(same, activations.negative, activations.stream_norms, True),
        "mean_difference",
        tiny.provenance(width=D),
    )
    assert vector.points == (P,)


floats = st.integers(0, 10_000)


@given(floats, st.integers(1, 8), st.integers(1, 8))
def test_mean_difference_is_the_difference_of_the_means(seed, n, m):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, 5)), rng.normal(size=(m, 5))
    ours = estimate("mean_difference", torch.tensor(a), torch.tensor(b), False).numpy()
    np.testing.assert_allclose(ours, a.mean(0) - b.mean(0), rtol=1e-5, atol=1e-6)


@given(floats, st.booleans())
def test_pca_is_numpys_first_right_singular_vector(seed, paired):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(9, 5)) + 2 * rng.normal(size=5)
    b = rng.normal(size=(9 if paired else 6, 5))
    gap = a.mean(0) - b.mean(0)
    x = a - b if paired else np.concatenate([a, b]) - (a.mean(0) + b.mean(0)) / 2
    axis = np.linalg.svd(x)[2][0]
    ours = estimate("pca", torch.tensor(a), torch.tensor(b), paired).numpy()
    np.testing.assert_allclose(ours, axis * (axis @ gap), rtol=1e-4, atol=1e-5)
    assert ours @ gap >= 0


@settings(max_examples=15)
@given(floats, st.floats(0.0, 3.0))
def test_the_probe_is_scipys_logistic_regression(seed, gap):
    rng = np.random.default_rng(seed)
    scales = np.array([1.0, 10.0, 0.1, 3.0])
    a = (rng.normal(size=(20, 4)) + gap) * scales + 5
    b = rng.normal(size=(13, 4)) * scales + 5
    both = np.concatenate([a, b])
    x = (both - both.mean(0)) / both.std(0, ddof=1)
    sign = np.array([1.0] * 20 + [-1.0] * 13)
    weight = np.array([0.5 / 20] * 20 + [0.5 / 13] * 13)

    def loss(w):
        return (weight * np.logaddexp(0, -sign * (x @ w[:-1] + w[-1]))).sum() + 1e-2 * (w[:-1] ** 2).sum()

    found = optimize.minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-9}).x
    normal = found[:-1] / both.std(0, ddof=1)
    normal /= np.linalg.norm(normal)
    expected = normal * (normal @ (a.mean(0) - b.mean(0)))
    ours = estimate("probe", torch.tensor(a), torch.tensor(b), False).numpy()
    np.testing.assert_allclose(ours, expected, rtol=2e-3, atol=2e-4 * np.linalg.norm(expected))


def test_the_probe_works_where_one_activation_never_changes():
    activations, _ = _planted(False)
    plus, minus = activations.positive[P].clone(), activations.negative[P].clone()
    plus[:, 0] = minus[:, 0] = 7.0
    found = estimate("probe", plus, minus, False)
    assert bool(torch.isfinite(found).all())
    assert abs(float(found[0])) < 1e-4


def test_the_probe_works_on_activations_read_under_no_grad():
    with torch.no_grad():
        assert float(estimate("probe", torch.ones(3, 2), -torch.ones(3, 2), False).norm()) > 0


@given(floats, st.integers(2, 8), st.integers(2, 8))
def test_lat_is_the_main_axis_of_the_differences_of_all_pairs_with_both_signs(seed, n, m):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, 5)) + rng.normal(size=5), rng.normal(size=(m, 5))
    differences = np.array([x - y for x in a for y in b])
    axis = np.linalg.svd(np.concatenate([differences, -differences]))[2][0]
    ours = estimate("lat", torch.tensor(a), torch.tensor(b), False).numpy()
    np.testing.assert_allclose(ours, axis * (axis @ (a.mean(0) - b.mean(0))), rtol=1e-4, atol=1e-5)


def test_lat_does_not_use_who_belongs_to_whom():
    """What the rows of a pair share is spread to it, and none to the principal component of the pairs."""
    generator = torch.Generator().manual_seed(2)
    common = 5 * torch.randn(200, 1, generator=generator) * torch.eye(D)[1]
    noise = 0.1 * torch.randn(2, 200, D, generator=generator)
    plus, minus = common + torch.eye(D)[0] + noise[0], common + noise[1]
    axes = {name: estimate(name, plus, minus, True) for name in ("lat", "pca")}
    axes = {name: (axis / axis.norm()).abs() for name, axis in axes.items()}
    assert axes["lat"][1] > 0.9 > 0.3 > axes["lat"][0]
    assert axes["pca"][0] > 0.95 > 0.3 > axes["pca"][1]


def _shrunk(rows):
    """Ledoit and Wolf's covariance of centred rows, term by term."""
    n, d = rows.shape
    s = rows.T @ rows / n
    target = np.trace(s) / d * np.eye(d)
    far = ((s - target) ** 2).sum() / d
    error = min(far, sum(((np.outer(x, x) - s) ** 2).sum() / d for x in rows) / n**2)
    return (error / far) * target + (1 - error / far) * s


@given(floats, st.integers(2, 9), st.integers(2, 9), st.integers(2, 30))
def test_whitened_is_the_gap_times_the_inverse_of_the_shrunk_covariance(seed, n, m, d):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, d)) * np.linspace(0.2, 3, d) + 1
    b = rng.normal(size=(m, d)) * np.linspace(0.2, 3, d)
    gap = a.mean(0) - b.mean(0)
    normal = np.linalg.solve(_shrunk(np.concatenate([a - a.mean(0), b - b.mean(0)])), gap)
    normal /= np.linalg.norm(normal)
    ours = estimate("whitened", torch.tensor(a), torch.tensor(b), False).numpy()
    np.testing.assert_allclose(ours, normal * (normal @ gap), rtol=1e-3, atol=1e-4 * np.linalg.norm(gap))


def test_whitened_tells_sides_apart_that_overlap_along_the_difference_of_their_means():
    """Fisher's example: a loud coordinate carries most of the gap and none of the distinction."""
    generator = torch.Generator().manual_seed(5)
    loud = torch.tensor([20.0, 1.0])
    plus = torch.randn(4000, 2, generator=generator) * loud + torch.tensor([4.0, 3.0])
    minus = torch.randn(4000, 2, generator=generator) * loud

    def apart(name):
        v = estimate(name, plus, minus, False)
        return float((plus @ v > (plus.mean(0) + minus.mean(0)) @ v / 2).float().mean())

    assert apart("whitened") > 0.92  # Phi(1.5)
    assert apart("mean_difference") < 0.65


def test_whitened_works_where_no_row_differs_from_its_sides_mean():
    assert torch.equal(estimate("whitened", torch.ones(3, 2), -torch.ones(3, 2), False), torch.tensor([2.0, 2.0]))


@given(floats, st.booleans())
def test_the_shuffled_null_keeps_every_row_and_mixes_the_sides(seed, paired):
    activations, _ = _planted(paired)
    mixed = shuffled(activations, seed)
    assert mixed.paired == paired
    for point in (P, Q):
        before = torch.cat([activations.positive[point], activations.negative[point]])
        after = torch.cat([mixed.positive[point], mixed.negative[point]])
        assert sorted(before.tolist()) == sorted(after.tolist())
        assert mixed.positive[point].shape == activations.positive[point].shape
        moved = (mixed.positive[point] != activations.positive[point]).any(1).float().mean()
        assert moved > 0.1
    if paired:
        for i in range(len(mixed.positive[P])):
            pair = {tuple(mixed.positive[P][i].tolist()), tuple(mixed.negative[P][i].tolist())}
            assert pair == {tuple(activations.positive[P][i].tolist()), tuple(activations.negative[P][i].tolist())}
    # one deal for all hook points: what belongs together stays together
    assert torch.equal(mixed.positive[Q], 2 * mixed.positive[P])
    again = shuffled(activations, seed)
    assert torch.equal(again.positive[P], mixed.positive[P])


@pytest.mark.parametrize("paired", [True, False])
def test_the_shuffled_null_forgets_the_direction(paired):
    activations, direction = _planted(paired, n=400)
    real = fit(activations, "mean_difference", tiny.provenance(width=D))
    null = fit(shuffled(activations, 1), "mean_difference", tiny.provenance(width=D))
    assert abs(float(null.directions[P] @ direction)) < 0.25 * real.norm(P)


@given(st.integers(0, 1000))
def test_the_random_null_keeps_every_norm_and_nothing_else(seed):
    vector = tiny.vector(0, 1, 2, size=3.5, seed=5000)
    null = vector.random_like(seed)
    assert null.points == vector.points
    assert null.stream_norms == vector.stream_norms
    for point in vector.points:
        assert null.norm(point) == pytest.approx(3.5, rel=1e-5)
        assert abs(float(null.directions[point] @ vector.directions[point])) < 0.9 * 3.5**2
    assert torch.equal(vector.random_like(seed).directions[P], null.directions[P])
    assert not torch.equal(vector.random_like(seed + 1).directions[P], null.directions[P])
    assert not torch.allclose(null.directions[P], null.directions[Q])


def test_methods_are_read_from_names_groups_and_lists():
    assert [m.name for m in methods("pas")] == ["pas-full", "ipas-all", "ipas-wrong"]
    assert [m.name for m in methods("caa, pas,caa")] == ["caa", "pas-full", "ipas-all", "ipas-wrong"]
    assert {m.name for m in methods("auto")} == {"caa", "pas-full", "ipas-all", "ipas-wrong"}
    combined = method("ipas-wrong+pca")
    assert (combined.name, combined.estimator) == ("ipas-wrong", "pca")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "ipas-wrng",
            r"no method named 'ipas-wrng'; known: .*pas-full.*w2s, writing\. Did you mean 'ipas-wrong'\?",
        ),
        (
            "caa+pcaa",
            rf"no estimator named 'pcaa'; known: {', '.join(sorted(ESTIMATORS))}\. Did you mean 'pca'\?",
        ),
        ("ca+pca", r"no method named 'ca'.*Did you mean 'caa'\?"),
        ("", "no method named ''"),
    ],
)
def test_an_unknown_method_is_refused_with_the_known_ones(name, said):
    with pytest.raises(UnknownNameError, match=said):
        methods(name)


@pytest.mark.parametrize("group", GROUPS)
def test_groups_name_known_methods(group):
    assert [str(m) for m in methods(group)] == [str(method(name)) for name in GROUPS[group]]
