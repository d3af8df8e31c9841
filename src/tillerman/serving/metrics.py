"""What Prometheus reads. No label per user or plan: their number has no bound."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from tillerman.serving.engine import Ended
from tillerman.serving.monitors import ServedMonitor
from tillerman.serving.plans import ServedPlan

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
_DOSES = (0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5)
UNSTEERED = "none"  # the artefact's name in the labels of an unsteered request


class Metrics:
    """One registry per server, so that two in one process do not share it."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        made = self.registry
        self.requests = Counter(
            "tillerman_requests", "answers by artefact and outcome", ["artefact", "outcome"], registry=made
        )
        self.tokens = Counter("tillerman_steered_tokens", "tokens changed", ["artefact", "hook_point"], registry=made)
        self.made = Counter("tillerman_generated_tokens", "tokens of answers", registry=made)
        self.dose = Histogram(
            "tillerman_dose",
            "|dose| of interventions",
            buckets=(0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5),
            registry=made,
        )
        self.refused = Counter("tillerman_refused", "requests not answered", ["code"], registry=made)
        self.caught = Counter(
            "tillerman_unsteered_caught", "answers withheld: done was not what was asked; must stay 0", registry=made
        )
        self.crossings = Counter(
            "tillerman_monitor_crossings", "answers that crossed a monitor", ["monitor", "action"], registry=made
        )
        self.running = Gauge("tillerman_answers_running", "answers being made", registry=made)
        self.checked = Gauge("tillerman_checked_timestamp_seconds", "when steering was last proved", registry=made)
        self.unproved = Gauge(
            "tillerman_artefacts_unproved",
            "artefacts that the canary no longer shows to steer; must be 0",
            registry=made,
        )
        self.first = Histogram("tillerman_first_token_seconds", "until the first text", buckets=_SECONDS, registry=made)
        self.whole = Histogram("tillerman_request_seconds", "of answered requests", buckets=_SECONDS, registry=made)

    def ended(self, plan: ServedPlan, ends: list[Ended], outcome: str, monitors: Sequence[ServedMonitor] = ()) -> None:
        """One answered request."""
        for name in plan.names or (UNSTEERED,):
            self.requests.labels(name, outcome).inc()
        self.made.inc(sum(end.answer_tokens for end in ends))
        for act in plan.acts:
            self.dose.observe(abs(act.dose))
        for end in ends:
            for act, touched in zip(plan.acts, end.touched, strict=False):
                for point, count in touched.tokens.items():
                    self.tokens.labels(act.served.name, point).inc(count)

        for one, found in ((one, found) for end in ends for one, found in zip(monitors, end.followed, strict=False)):
            if found.token is not None:
                self.crossings.labels(one.name, one.alarm.action).inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)
