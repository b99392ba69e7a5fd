"""The plugin of fairseq: importing this applies the workarounds, then registers models, tasks and criteria.

Every package that needs fairseq imports it first, so that fairseq is prepared before anything else of it is imported.
"""

from importlib.util import find_spec

from .common.errors import print_user_errors_in_one_line
from .common.needs import FairseqMissing

if find_spec("fairseq") is None:
    print_user_errors_in_one_line()  # a command meets this while it imports its parts, before its main begins
    raise FairseqMissing(
        "fairseq is not installed. On Linux x86-64 with Python 3.11 or 3.12: "
        "pip install --no-deps ve-fairseq==0.12.3 && pip install bitarray cffi hydra-core omegaconf "
        "packaging regex sacrebleu scikit-learn tqdm; elsewhere: see 'Install' in the README. "
        "Only skipln_fairseq.nn works without it"
    )

from .compat.workarounds import apply

apply()

from . import criterions, decoding, images, models  # noqa: E402  (register with fairseq, which is prepared now)

__all__ = ["criterions", "decoding", "images", "models"]
