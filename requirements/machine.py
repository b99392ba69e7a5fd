"""What this Python on this machine needs of the files beside this one. For the Makefile; needs no package.

    python requirements/machine.py check          one line and a non-zero exit where something is missing
    python requirements/machine.py lock           the locked packages
    python requirements/machine.py fairseq        the fairseq that fits
    python requirements/machine.py torch-index    where torch's build for CPUs is, if there is no NVIDIA driver

A Python that is too old has to read this file to the end before it can say so: hence no f-strings.
"""

# ruff: noqa: UP032

import os
import platform
import shutil
import sys
import sysconfig

HERE = os.path.dirname(os.path.abspath(__file__))
FIRST, LAST = (3, 10), (3, 13)
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
DRIVER = "/proc/driver/nvidia/version"


def version():
    """Major and minor number."""
    return sys.version_info[:2]


def has_fairseq_wheel():
    """Whether fairseq.txt has a wheel for this Python; for all others it is compiled."""
    return version() in ((3, 11), (3, 12)) and sys.platform == "linux" and platform.machine() == "x86_64"


def has_driver():
    """Whether the machine can run CUDA."""
    return os.path.exists(DRIVER) or shutil.which("nvidia-smi") is not None


def missing():
    """What stands in the way, as one line, or nothing."""
    name = "Python {}.{}".format(*version())
    if not FIRST <= version() <= LAST:
        return '"{}" is {}, and this needs 3.10 to 3.13: make install PYTHON=/path/to/python3.12'.format(
            sys.executable, name
        )
    from importlib.util import find_spec  # which Python 2 has not

    if find_spec("ensurepip") is None:
        return '"{}" cannot create virtual environments: apt-get install python3-venv'.format(sys.executable)
    if has_fairseq_wheel():
        return None
    compiles = "fairseq is compiled for {} here, and ".format(name)
    if not any(map(shutil.which, (os.environ.get("CXX") or "g++", "c++", "clang++"))):
        return compiles + "there is no C++ compiler: apt-get install g++"
    if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
        return compiles + "Python.h is missing: apt-get install python3-dev"
    return None


def check():
    """End with what is missing; else say what takes long."""
    line = missing()
    if line:
        sys.exit("make: " + line)
    if not has_fairseq_wheel():
        print(
            "fairseq has no wheel for Python {}.{} here: it is compiled, in about 3 minutes".format(
                *version()
            )
        )


def lock():
    """The file of locked packages."""
    print(os.path.join(HERE, "py{}{}.lock".format(*version())))


def fairseq():
    """The file of the fairseq that fits."""
    print(os.path.join(HERE, "fairseq.txt" if has_fairseq_wheel() else "fairseq-source.txt"))


def torch_index():
    """The index of CPU builds, or nothing: macOS has no other builds."""
    print(CPU_INDEX if sys.platform == "linux" and not has_driver() else "")


if __name__ == "__main__":
    {"check": check, "lock": lock, "fairseq": fairseq, "torch-index": torch_index}[sys.argv[1]]()
