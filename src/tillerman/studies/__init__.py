"""Studies of an artefact: where it works, what it needs, what it costs, how it breaks.

::

    import tillerman, tillerman.studies as studies

    model = tillerman.open_model("pilot")
    artefact, _ = model.load_artefact("science.safetensors")
    data = tillerman.load_examples("sample:interest-in-science")
    log = studies.run("samples", studies.Subject(artefact, model, data), studies.Samples(draws=4))
    print(log.verdict.words)
"""

from tillerman.evaluation.study import StudyLog, studies_of, with_study
from tillerman.studies.attack import Attack
from tillerman.studies.id_ood import IdOod
from tillerman.studies.interaction import Interaction
from tillerman.studies.lab import Lab, StudyOptions, Subject, study_key
from tillerman.studies.registry import STUDIES, Study, judge_again, run
from tillerman.studies.samples import Samples
from tillerman.studies.scale import Scale
from tillerman.studies.side_effects import SideEffects
from tillerman.studies.transfer import Transfer

__all__ = [
    "STUDIES",
    "Attack",
    "IdOod",
    "Interaction",
    "Lab",
    "Samples",
    "Scale",
    "SideEffects",
    "Study",
    "StudyLog",
    "StudyOptions",
    "Subject",
    "Transfer",
    "judge_again",
    "run",
    "studies_of",
    "study_key",
    "with_study",
]
