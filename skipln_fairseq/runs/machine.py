"""Machine and environment of a run."""

import platform
import re
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import fairseq
import torch

from ..common.errors import UserError
from ..version import __version__

__all__ = ["check_device", "device_name", "where"]


def check_device(device: str) -> None:
    """Refuse a device that torch does not find."""
    if device not in ("cpu", "cuda"):
        raise UserError(f"--device {device}: valid are cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no GPU")


def device_name(device: str) -> str:
    """The model of the processor or the GPU."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _commit() -> str | None:
    """Of the repository that this package is kept in, if it is; with a plus where something is changed."""
    try:
        git = ("git", "-C", str(Path(__file__).parents[1]))
        subprocess.run([*git, "ls-files", "--error-unmatch", "version.py"], check=True, capture_output=True)
        command = [*git, "describe", "--always", "--exclude=*", "--dirty=+"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def where(device: str) -> dict[str, str]:
    """What a reader needs to know to measure the same again."""
    return {
        "device": device_name(device),
        "skipln_fairseq": " ".join(filter(None, (__version__, _commit()))),
        "torch": torch.__version__,
        "fairseq": fairseq.__version__,
        "python": platform.python_version(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
