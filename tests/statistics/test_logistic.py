"""Logistic regression against scikit-learn's (a dependency of lm-eval, which tests have), and calibration."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from tillerman.core.errors import UsageError
from tillerman.statistics.logistic import Calibration, calibrate, fit_logistic


def _problem(seed: int, n: int = 60, d: int = 25, share: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    labels = draw.random(n) < share
    labels[:2] = (True, False)
    return draw.normal(size=(n, d)) + labels[:, None] * draw.normal(size=d) * 0.4, labels


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("penalty", [0.1, 1.0])
def test_weights_are_those_of_scikit_learn_with_balanced_classes(seed: int, penalty: float) -> None:
    rows, labels = _problem(seed)
    oracle = LogisticRegression(C=1 / penalty, class_weight="balanced", tol=1e-10, max_iter=10_000).fit(rows, labels)
    found = fit_logistic(rows, labels, penalty)
    assert np.allclose(found.weights, oracle.coef_[0], atol=1e-4)
    assert found.bias == pytest.approx(oracle.intercept_[0], abs=1e-4)
    assert np.allclose(found.log_odds(rows), oracle.decision_function(rows), atol=1e-3)


def test_sparse_rows_give_the_weights_of_dense_ones() -> None:
    rows, labels = _problem(3)
    rows[np.abs(rows) < 0.7] = 0
    dense, thin = fit_logistic(rows, labels), fit_logistic(sparse.csr_array(rows), labels)
    assert np.allclose(dense.weights, thin.weights, atol=1e-6)


def test_one_class_alone_is_an_error_that_counts() -> None:
    with pytest.raises(UsageError, match="3 rows, 3 of them wanted"):
        fit_logistic(np.eye(3), np.ones(3, dtype=bool))


def test_few_texts_told_apart_without_a_fault_do_not_become_certainties() -> None:
    scores = np.array([4.0, 5.0, 6.0, -4.0, -5.0, -6.0])
    labels = scores > 0
    p = calibrate(scores, labels)(scores)
    assert p[labels].mean() == pytest.approx(4 / 5, abs=0.02)  # (3 + 1) / (3 + 2)
    assert p[~labels].mean() == pytest.approx(1 / 5, abs=0.02)


def test_calibration_keeps_the_order_and_mends_the_scale() -> None:
    draw = np.random.default_rng(0)
    truth = draw.normal(size=4000) * 2
    labels = draw.random(4000) < 1 / (1 + np.exp(-truth))
    found = calibrate(truth * 3 + 1, labels)  # scores too steep by 3 and off by 1
    assert found.slope == pytest.approx(1 / 3, abs=0.03)
    assert found.shift == pytest.approx(-1 / 3, abs=0.1)


def test_without_one_of_the_classes_nothing_is_calibrated() -> None:
    assert calibrate(np.array([1.0, 2.0]), np.array([True, True])) == Calibration()
