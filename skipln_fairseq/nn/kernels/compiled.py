"""C sources beside this file, compiled for the machine at hand when they are first needed.

As Triton does for a GPU. The library is kept in the user's cache, under a name that says what it was made of, so each
machine compiles each version once (a second or two).
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import subprocess
import tempfile
from pathlib import Path

__all__ = ["load"]

logger = logging.getLogger(__name__)

FLAGS = (
    *("-std=c11", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"),
    # sums in several parts at once; not-a-number and infinity stay what they are, unlike with -ffast-math
    *("-fno-math-errno", "-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math"),
    *("-funroll-loops", "-fvariable-expansion-in-unroller"),
)
# compilers for x86 are wary of their widest registers, which today's processors no longer slow down for
WIDE = ("-mprefer-vector-width=512",) if platform.machine() in ("x86_64", "AMD64") else ()


def _processor() -> str:
    """What ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "".join(dict.fromkeys(line for line in lines if line.startswith(("flags", "Features", "model"))))


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(root) / "skipln_fairseq"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:  # a home that cannot be written to: each process compiles for itself
        return Path(tempfile.mkdtemp(prefix="skipln_fairseq-"))


def _compile(source: Path) -> Path:
    command = [*shlex.split(os.environ.get("CC") or "cc"), *FLAGS, *WIDE, str(source)]
    version = subprocess.run([command[0], "--version"], capture_output=True, check=True).stdout
    headers = b"".join(header.read_bytes() for header in sorted(source.parent.glob("*.h")))
    made_of = (source.read_bytes(), headers, version, " ".join(command[1:-1]).encode(), _processor().encode())
    name = hashlib.sha256(b"\0".join(made_of)).hexdigest()[:16]
    library = _cache() / f"{source.stem}-{name}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            fresh = Path(folder) / library.name
            subprocess.run([*command, "-o", str(fresh), "-lm"], capture_output=True, check=True, text=True)
            fresh.replace(library)  # at once, so that of several processes none loads half a file
    return library


@functools.cache
def load(source: Path) -> ctypes.CDLL | None:
    """The compiled library of a C file, or None, with one warning, where it cannot be compiled or loaded."""
    try:
        return ctypes.CDLL(str(_compile(source)))
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        why = getattr(error, "stderr", None) or error
        logger.warning(
            f"{source.name} does not compile here, slower torch operations take its place: {str(why).strip()}"
        )
        return None
