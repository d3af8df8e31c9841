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
from tillerman.studies.attack.options import AttackOptions
from tillerman.studies.base import Lab, Subject, study_key
from tillerman.studies.certify.options import CertifyOptions
from tillerman.studies.id_ood.options import IdOodOptions
from tillerman.studies.interaction.options import InteractionOptions
from tillerman.studies.options import StudyOptions
from tillerman.studies.registry import STUDIES, Study, judge_again, run
from tillerman.studies.safety.options import SafetyOptions
from tillerman.studies.samples.options import SamplesOptions
from tillerman.studies.scale.options import ScaleOptions
from tillerman.studies.side_effects.options import SideEffectsOptions
from tillerman.studies.transfer.options import TransferOptions
from tillerman.studies.turns.options import TurnsOptions

__all__ = [
    "STUDIES",
    "AttackOptions",
    "CertifyOptions",
    "IdOodOptions",
    "InteractionOptions",
    "Lab",
    "SafetyOptions",
    "SamplesOptions",
    "ScaleOptions",
    "SideEffectsOptions",
    "Study",
    "StudyLog",
    "StudyOptions",
    "Subject",
    "TransferOptions",
    "TurnsOptions",
    "judge_again",
    "run",
    "studies_of",
    "study_key",
    "with_study",
]
