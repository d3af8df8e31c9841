"""Old spellings, and what is written instead. A line per spelling; a program that meets one says the new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tillerman.core.errors import UsageError


@dataclass(frozen=True)
class Moved:
    """``old``: a flag, or the name of a command. ``new``: what to write, as the user types it. ``commands``: whose flag
    it was; empty for a command. ``ending``: of a command whose name has another meaning now, how the file ends that
    tells the old one."""

    old: str
    new: str
    commands: tuple[str, ...] = ()
    ending: str = ""

    def means(self, command: str, rest: Sequence[str]) -> bool:
        """Whether it is this command that was written."""
        ends = not self.ending or any(argument.endswith(self.ending) for argument in rest)
        return not self.commands and command == self.old and ends


_FIT, _COMPARE = ("fit",), ("compare",)
MOVED: tuple[Moved, ...] = (
    Moved("--lora", "--lora-baseline", _COMPARE),
    # What only some methods read is part of the method (docs/methods/index.md).
    Moved("--sae", "--method sta:sae=PATH (also sae-difference, sae-feature)", _FIT),
    Moved("--sae-at", "--method sta:sae=PATH,at=HOOKPOINT", _FIT),
    Moved("--sae-labels", "--method sae-feature:sae=PATH,labels=FILE", _FIT),
    Moved("--sae-feature", "--method sae-feature:sae=PATH,feature=ATOM", _FIT),
    Moved("--sae-operator", "--method sae-feature:sae=PATH,operator=clamp", _FIT),
    Moved("--sta-rule", "--method sta:sae=PATH,rule=paper", _FIT),
    Moved("--sta-modes", "--method sta:sae=PATH,modes=amplitude", _FIT),
    Moved("--sta-share", "--method sta:sae=PATH,share=0.2", _FIT),
    Moved("--cold-loss", "--method cold-kernel:loss=rejected (also cold-fd, cold-jvp)", _FIT),
    Moved("--cold-epsilon", "--method cold-fd:epsilon=0.001", _FIT),
    Moved("--cold-keep", "--method cold-fd:keep=0.01 (also cold-jvp)", _FIT),
    Moved("--sae", "--methods sta:sae=PATH (also sae-difference, sae-feature)", _COMPARE),
    Moved("--sae-at", "--methods sta:sae=PATH,at=HOOKPOINT", _COMPARE),
    Moved("--sae-feature", "--methods sae-feature:sae=PATH,feature=ATOM", _COMPARE),
    Moved("audit", "tillerman audit-log FILE (audit MODEL now looks into a model's weights)", ending=".jsonl"),
    Moved("--prompt-negative", "--method prompt-vector:negative=TEXT (also prompt-contrast, actadd)", _FIT),
)


def check_moved(arguments: Sequence[str], moved: Sequence[Moved] = MOVED) -> None:
    """``UsageError`` that names the new spelling, for the first old one among the command line's ``arguments``."""
    if not arguments:
        return
    command, *rest = arguments
    gone = next((one for one in moved if one.means(command, rest)), None)
    if gone is not None:
        of = f" of a {gone.ending} file" if gone.ending else ""
        raise UsageError(f"{command}{of} is gone; write: {gone.new}")
    flags = {one.old: one for one in moved if command in one.commands}
    for argument in rest:
        if argument == "--":  # what follows is no flag
            return
        flag = argument.partition("=")[0]
        if flag in flags:
            raise UsageError(f"{flag} is gone; write: {flags[flag].new}")
