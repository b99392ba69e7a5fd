"""C sources beside this file, compiled for the machine at hand when they are first needed.

As Triton does for a GPU. The library is kept in the user's cache, so each machine compiles each version once (a second
or two); without a cache each process does, in a private folder that is gone when the library is loaded.

The environment's ``CC`` names the compiler, with arguments. Flags in ``SKIPLN_CFLAGS`` come after ours, which they may
take back: ``-march=x86-64-v3`` compiles for a processor with AVX2 and no more.
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

from . import cache

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


@functools.cache
def load(source: Path, *flags: str) -> ctypes.CDLL | None:
    """The compiled library of a C file, or None where it cannot be compiled or loaded: with a line of warning, once.

    Args:
        source: the file.
        flags: of the compiler, besides those of all files.
    """
    try:
        command = [*_words("CC", "cc"), *FLAGS, *WIDE, *flags, *_words("SKIPLN_CFLAGS", "")]
        name = _name(command, source)
        library = cache.load(name)
        return _compile(command, source, name) if library is None else library
    except subprocess.CalledProcessError as error:
        _warn(_main_line(error.stderr.decode(errors="replace")) or str(error))
    except (OSError, ValueError) as error:
        _warn(str(error))
    return None


def _words(variable: str, usual: str) -> list[str]:
    """Of a variable of the environment, as a shell has them; the usual ones where it is empty.

    Raises:
        ValueError: where it cannot be split into words.
    """
    words = os.environ.get(variable, "")
    try:
        return shlex.split(words) or shlex.split(usual)
    except ValueError as error:
        raise ValueError(f"{variable} is {words!r}: {error}") from error


def _name(command: list[str], source: Path) -> str:
    """After all that the library depends on.

    The preprocessor's output has the headers' text, and the definitions by which the compiler tells the processor's
    features, which ``-march=native`` makes use of.
    """
    text = _run([*command, "-E", "-dD", "-P", str(source)])
    made_of = b"\0".join((text, _run([*command, "--version"]), *map(os.fsencode, command)))
    return f"{source.stem}-{hashlib.sha256(made_of).hexdigest()[:16]}"


def _compile(command: list[str], source: Path, name: str) -> ctypes.CDLL:
    # a file that is loaded can be removed: its memory stays
    with tempfile.TemporaryDirectory(prefix="skipln_fairseq-", ignore_cleanup_errors=True) as folder:
        fresh = Path(folder) / f"{name}.so"
        _run([*command, str(source), "-o", str(fresh), "-lm"])
        cache.keep(name, fresh.read_bytes())
        # from the cache first, since nothing may be executed from some systems' temporary folders
        kept = cache.load(name)
        return ctypes.CDLL(str(fresh)) if kept is None else kept


def _run(command: list[str]) -> bytes:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout


def _main_line(printed: str) -> str:
    """Of what a compiler has printed: the first error, or the last line."""
    lines = printed.strip().splitlines() or [""]
    return next((line for line in lines if "error" in line), lines[-1])


@functools.cache
def _warn(why: str) -> None:
    logger.warning(f"the kernels in C do not compile here, slower torch operations take their place: {why}")
