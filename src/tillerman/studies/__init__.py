"""Studies of an artefact: where it works, what it needs, what it costs, how it breaks.

::

    import tillerman, tillerman.studies as studies

    model = tillerman.open_model("pilot")
    artefact, _ = model.load_artefact("science.safetensors")
    data = tillerman.load_examples("sample:interest-in-science")
    log = studies.run("samples", studies.Subject(artefact, model, data), studies.SamplesOptions(draws=4))
    print(log.verdict.words)
"""

from tillerman.evaluation.cards import studies_of, with_study
from tillerman.logs.study import StudyLog
from tillerman.studies.attack import AttackOptions
from tillerman.studies.base import Lab, StudyOptions, Subject, study_key
from tillerman.studies.id_ood import IdOodOptions
from tillerman.studies.interaction import InteractionOptions
from tillerman.studies.registry import STUDIES, Study, judge_again, run
from tillerman.studies.samples import SamplesOptions
from tillerman.studies.scale import ScaleOptions
from tillerman.studies.side_effects import SideEffectsOptions
from tillerman.studies.transfer import TransferOptions

__all__ = [
    "STUDIES",
    "AttackOptions",
    "IdOodOptions",
    "InteractionOptions",
    "Lab",
    "SamplesOptions",
    "ScaleOptions",
    "SideEffectsOptions",
    "Study",
    "StudyLog",
    "StudyOptions",
    "Subject",
    "TransferOptions",
    "judge_again",
    "run",
    "studies_of",
    "study_key",
    "with_study",
]
