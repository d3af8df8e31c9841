"""BiPO: a vector trained so that, added, it makes the wanted answers likelier than the others, and subtracted,
the others likelier than the wanted ones (Cao et al., arXiv 2406.00045, section 3)."""

from __future__ import annotations

from tillerman.core.errors import FitError
from tillerman.core.rows import Row
from tillerman.core.steerings.vector import SteeringVector
from tillerman.data.pairings import another
from tillerman.methods.base import Lesson
from tillerman.models.capture import capture
from tillerman.models.gradients import Taught
from tillerman.models.training import TrainingOptions, train_vectors


def fit_bipo(lesson: Lesson, options: TrainingOptions) -> SteeringVector:
    """Train on pairs: of every item the wanted answer, and the one that ``caa`` holds against it.

    Every hook point has a vector of its own, trained as if it were the only one. The stream's norm is that of the
    prompts' last tokens.
    """
    if lesson.items[0].example.kind == "text":
        raise FitError("BiPO trains on answers to a prompt; labelled texts have none: use --method caa")
    pairs = [
        Taught(w.prompt, (w.answers[w.right], w.answers[another(item)]))
        for item, w in zip(lesson.items, lesson.written, strict=True)
    ]
    ends = capture(lesson.opened, [Row(pair.prompt) for pair in pairs], lesson.points)
    norms = {p: float(h.norm(dim=-1).mean()) for p, h in ends.items()}
    vectors = train_vectors(lesson.opened, pairs, norms, options, seed=lesson.seed, progress=lesson.progress)
    return SteeringVector(vectors, norms, lesson.provenance)
