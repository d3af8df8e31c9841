"""One text as a monitor follows it: what its tokens have projected so far, and where it crossed."""

from __future__ import annotations

from copy import copy

from tillerman.core.monitors import Monitor


class Following:
    """``crossed`` is the number of answer tokens that had been read when the threshold was crossed, 0 where the prompt
    crossed it, None where nothing has; ``value`` is the statistic there, else the latest one."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self.read = 0  # tokens of the answer
        self.crossed: int | None = None
        self.value: float | None = None
        self._total = 0.0

    def copy(self) -> Following:
        return copy(self)

    def see_prompt(self, projection: float) -> None:
        """Of the prompt's last token."""
        if self.monitor.read == "prompt":
            self._weigh(projection)

    def see(self, projection: float) -> None:
        """Of the answer's next token."""
        self.read += 1
        self._total += projection
        if self.monitor.read == "token":
            self._weigh(projection)
        elif self.monitor.read == "mean" and self.read >= self.monitor.least:
            self._weigh(self._total / self.read)

    def _weigh(self, value: float) -> None:
        if self.crossed is None:
            self.value = value
            self.crossed = self.read if self.monitor.crosses(value) else None
