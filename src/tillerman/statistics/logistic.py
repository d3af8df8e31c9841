"""Logistic regression with an L2 penalty, and the calibration of a score to a probability. Deterministic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from tillerman.core.errors import UsageError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Logistic:
    """``log odds = rows @ weights + bias``."""

    weights: Floats
    bias: float

    def log_odds(self, rows: Any) -> Floats:
        """Of each row ``[n]``; ``rows [n, d]`` is an array or a sparse matrix."""
        return np.asarray(rows @ self.weights + self.bias, dtype=np.float64)


def fit_logistic(rows: Any, labels: NDArray[np.bool_], penalty: float = 0.1) -> Logistic:
    """Minimises ``sum_i c_i log(1 + exp(-y_i f_i)) + penalty/2 |w|^2``, both classes with the same total weight.

    ``rows [n, d]`` is an array or a sparse matrix; ``c_i = n / (2 n_class)``; the bias is not penalised. The problem
    is convex: one minimum, whatever the start. ``UsageError`` where a class is missing.
    """
    n, d = rows.shape
    counts = np.array([(~labels).sum(), labels.sum()])
    if len(labels) != n or not counts.all():
        raise UsageError(f"{n} rows, {counts[1]} of them wanted: expected a label per row, and rows of both kinds")
    signs, shares = np.where(labels, 1.0, -1.0), (n / (2 * counts))[labels.astype(int)]

    def loss(at: Floats) -> tuple[float, Floats]:
        margins = signs * (rows @ at[:d] + at[d])
        pull = -shares * signs * special.expit(-margins)
        value = float(shares @ np.logaddexp(0.0, -margins) + penalty / 2 * at[:d] @ at[:d])
        return value, np.concatenate([rows.T @ pull + penalty * at[:d], [pull.sum()]])

    options: Any = {"maxiter": 2_000, "ftol": 1e-13, "gtol": 1e-8}
    found = optimize.minimize(loss, np.zeros(d + 1), jac=True, method="L-BFGS-B", options=options).x
    return Logistic(np.asarray(found[:d], dtype=np.float64), float(found[d]))


@dataclass(frozen=True)
class Calibration:
    """``p = 1 / (1 + exp(-(slope * log odds + shift)))``."""

    slope: float = 1.0
    shift: float = 0.0

    def __call__(self, log_odds: Floats) -> Floats:
        return np.asarray(special.expit(self.slope * log_odds + self.shift), dtype=np.float64)


def calibrate(log_odds: Floats, labels: NDArray[np.bool_]) -> Calibration:
    """Fitted to scores of texts that the regression has not seen (Platt 1999, "Probabilistic outputs for support
    vector machines"): targets ``(n1 + 1) / (n1 + 2)`` and ``1 / (n0 + 2)`` instead of 1 and 0, so that few texts that
    are told apart without a fault do not become certainties. Unchanged where a class is missing."""
    wanted, others = int(labels.sum()), int((~labels).sum())
    if not wanted or not others:
        return Calibration()
    targets = np.where(labels, (wanted + 1) / (wanted + 2), 1 / (others + 2))

    def loss(at: Floats) -> tuple[float, Floats]:
        raised = at[0] * log_odds + at[1]
        miss = special.expit(raised) - targets
        return float((np.logaddexp(0.0, raised) - targets * raised).sum()), np.array([miss @ log_odds, miss.sum()])

    slope, shift = optimize.minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    return Calibration(float(slope), float(shift))
