"""The door that ``--user-dir skipln_fairseq`` opens: first the workarounds, then the models."""

from importlib.util import find_spec

if find_spec("fairseq") is None:
    raise ImportError(
        "skipln_fairseq needs fairseq, which pip does not find by itself (its own release does not build on "
        "today's Python). On Linux with Python 3.11: pip install --no-deps ve-fairseq==0.12.3 && "
        "pip install 'skipln_fairseq[fairseq-needs]'; other versions: see 'Install' in the README"
    )

from . import compat

compat.apply()

from . import models  # noqa: E402  (registers with fairseq, which compat has to prepare)

__all__ = ["models"]
