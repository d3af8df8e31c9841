"""How often a key may ask: a bucket of requests that fills up again over a minute."""

from __future__ import annotations

import time
from collections.abc import Callable

from tillerman.serving.policy import Caller
from tillerman.serving.refusals import Refusal


class Rates:
    """Buckets by the key's name. A full bucket holds the requests of one minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}  # requests left, and when that was

    def take(self, caller: Caller) -> None:
        """One request; ``Refusal`` (rate_limit_exceeded) with the seconds until the next is allowed."""
        most = caller.requests_per_minute
        if most is None:
            return
        now = self._clock()
        before, since = self._left.get(caller.name, (float(most), now))
        left = min(float(most), before + (now - since) * most / 60)
        if left < 1:
            wait = (1 - left) * 60 / most
            raise Refusal("rate_limit_exceeded", f"this key may ask {most} times a minute", retry_after=wait)
        self._left[caller.name] = (left - 1, now)
