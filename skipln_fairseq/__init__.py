"""The door that ``--user-dir skipln_fairseq`` opens: first the workarounds, then the models."""

from importlib.util import find_spec

if find_spec("fairseq") is None:
    raise ImportError(
        "skipln_fairseq needs fairseq, which is not installed. On Linux x86-64 with Python 3.11: "
        "pip install --no-deps ve-fairseq==0.12.3 && pip install bitarray cffi hydra-core omegaconf "
        "packaging regex sacrebleu scikit-learn tqdm; elsewhere: see 'Install' in the README"
    )

from . import compat

compat.apply()

from . import criterions, decoding, images, models  # noqa: E402  (register with fairseq, which compat has to prepare)
from .version import __version__  # noqa: E402

__all__ = ["__version__", "criterions", "decoding", "images", "models"]
