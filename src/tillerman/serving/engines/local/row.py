"""One answer under way: its tokens, its words, and how it ends."""

from __future__ import annotations

from collections.abc import Set

from tillerman.core.alarms import Alarm
from tillerman.core.errors import UsageError
from tillerman.serving.engine import Chunk, Ended, Ending, Followed, Taken, Touched
from tillerman.serving.engines.local.mailbox import Mailbox
from tillerman.serving.engines.local.taking import DrawnToken, Taker
from tillerman.serving.engines.local.wording import ShownText, Wording, Words
from tillerman.steering.lone import LoneText

_BROKEN = (
    "the model gives no finite probabilities to draw a token from; where it is steered, a smaller strength may keep it "
    "in one piece"
)


class AnswerRow:
    """The job of a mailbox, as a row of a batch. ``over`` once it has ended, for whatever reason."""

    def __init__(self, box: Mailbox, words: Words, ends: Set[int], most: int, warnings: tuple[str, ...]) -> None:
        job = box.job
        if most < 1:
            raise UsageError(
                f"the prompt has {len(job.prompt)} tokens, and the model's context leaves no room for an answer"
            )
        switched = [item for alarm in job.alarms for item in alarm.switched]
        monitors = [alarm.monitor for alarm in job.alarms]
        self.box, self.text = box, LoneText((*job.plan, *switched), job.prompt, monitors)
        self.taker = Taker(job.drawing)
        self.over = False
        self._words, self._ends, self._warnings = words, ends, warnings
        self._wording = Wording(words, job.drawing.stop)
        self._most = min(most, job.drawing.max_tokens)
        self._taken = 0

    def take(self, drawn: DrawnToken | None) -> int:
        """The next token of the answer, to be run next; where the answer is over it does not matter."""
        if self.box.cancelled:
            self.end("cancelled")
        elif drawn is None:
            self.end("error", _BROKEN)
        elif self._taken == 0 and (missed := self.text.hopeless()):
            self.end("error", self._idle(missed, "this prompt"))
        elif self._aborted:
            self._put(self._wording.rest())
            self.end("aborted")
        else:
            self._took(drawn)
        return 0 if drawn is None or self.over else drawn.token

    @property
    def _aborted(self) -> bool:
        """Whether the last token that was run, or one before it, has crossed a monitor that ends the answer."""
        ends = (alarm.monitor for alarm in self.box.job.alarms if alarm.action == "abort")
        return any(self.text.followed[monitor].crossed is not None for monitor in ends)

    def _took(self, drawn: DrawnToken) -> None:
        self._taken += 1
        if drawn.token in self._ends:
            self._finish("stop", self._wording.rest())
            return
        others = tuple((token, self._words.of(token), logprob) for token, logprob in drawn.others)
        shown = self._wording.add(Taken(drawn.token, self._words.of(drawn.token), drawn.logprob, others))
        if shown.stopped:
            self._finish("stop", shown)
        elif self._taken >= self._most:
            self._put(shown)
            last = self._wording.rest()
            self._finish("stop" if last.stopped else "length", last)
        else:
            self._put(shown)
            self.text.grow(drawn.token)

    def _put(self, shown: ShownText) -> None:
        if shown.text or shown.tokens:
            self.box.put(Chunk(shown.text, shown.tokens))

    def _finish(self, ending: Ending, last: ShownText) -> None:
        self._put(last)
        missed = self.text.idle()
        if missed:
            self.end("error", self._idle(missed, "this prompt and its answer"))
        else:
            self.end(ending)

    def _idle(self, missed: list[int], where: str) -> str:
        names = (f"{self.box.job.names[i]!r} (scope {self.text.plan[i].scope.name})" for i in missed)
        return f"not steered as asked: {', '.join(names)} meets no token of {where}"

    def end(self, ending: Ending, why: str = "") -> None:
        """The last word on this job, the first time it is said."""
        if self.over:
            return
        self.over = True
        job, touched = self.box.job, [self._touched(i) for i in range(len(self.text.plan))]
        switched = iter(touched[len(job.plan) :])
        followed = tuple(self._followed(alarm, tuple(next(switched) for _ in alarm.plan)) for alarm in job.alarms)
        self.box.end(
            Ended(
                ending,
                len(job.prompt),
                self._taken,
                tuple(touched[: len(job.plan)]),
                why=why,
                warnings=self._warnings,
                followed=followed,
            )
        )

    def _touched(self, i: int) -> Touched:
        item = self.text.plan[i]
        tokens = {str(point): self.text.touched.get((i, point), 0) for point in item.steering.points}
        return Touched(tokens, self.text.decided(item.gate))

    def _followed(self, alarm: Alarm, touched: tuple[Touched, ...]) -> Followed:
        found = self.text.followed[alarm.monitor]
        return Followed(found.crossed, found.value, touched)
