"""As what the pickled types of a checkpoint are read: as numbers, text and bare attributes, whatever their classes do.

fairseq up to 0.9 pickled its counters beside the parameters, and what a run has counted is often a number of numpy's.
``checkpoints`` lets these names in, and no others.
"""

from argparse import Namespace

import numpy as np

__all__ = ["HARMLESS"]

RECONSTRUCT = np.zeros(0).__reduce__()[0]
SCALAR = np.float64(0).__reduce__()[0]
NUMBERS = "?bhilqBHILQefdgFDGSU"  # numpy's codes for numbers and text: no objects, no records


def _path(*parts: str) -> str:
    """A path is text: it gets no methods of a path, and is judged as other text is."""
    return "/".join(parts).replace("//", "/")


# They were classes of fairseq.meters up to 0.9, and are of fairseq.logging.meters since. None is made: the attributes
# go to a Namespace, which no code of fairseq's takes for a counter. A fork's are found under fairseq's names too.
COUNTERS = ("Meter", "AverageMeter", "SumMeter", "TimeMeter", "StopwatchMeter")

HARMLESS = [
    Namespace,
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in NUMBERS},
    # numpy 2 moved these two; a checkpoint names them as the numpy that wrote it did.
    *((RECONSTRUCT, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(
        (Namespace, f"fairseq.{module}.{name}")
        for module in ("meters", "logging.meters")
        for name in COUNTERS
    ),
    *(
        (_path, f"{module}.{kind}")
        for module in ("pathlib", "pathlib._local")
        for kind in ("PosixPath", "WindowsPath")
    ),
]
