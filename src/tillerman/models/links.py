"""A callable in the place of another on one object: links of a chain that can be taken out in any order."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import update_wrapper
from typing import Any

Around = Callable[..., Any]  # called with the callable that was there before, and the call's own arguments


class Link:
    """``around(before, *args, **kwargs)`` on ``holder.name``. A deep copy of the holder gets what was there before."""

    def __init__(self, holder: object, name: str, around: Around) -> None:
        before = getattr(holder, name)
        update_wrapper(self, before)  # its signature is read
        self._holder, self._name, self._around = holder, name, around
        self.before: Any = before
        self._own = name in holder.__dict__
        holder.__dict__[name] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._around(self.before, *args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.before, memo)

    @property
    def in_place(self) -> bool:
        """Whether a call gets here."""
        there = self._holder.__dict__.get(self._name)
        while there is not self and isinstance(there, Link):
            there = there.before
        return there is self

    def remove(self) -> None:
        """Leave the chain; what others have put in the place since then stays."""
        there = self._holder.__dict__
        later = there.get(self._name)
        if later is self:
            if self._own:
                there[self._name] = self.before
            else:
                del there[self._name]
            return
        while isinstance(later, Link):
            if later.before is self:
                later.before, later._own = self.before, self._own
                return
            later = later.before
