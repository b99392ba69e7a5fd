"""A wrong path or a wrongly encoded input ends a fairseq command in one line, not in a traceback."""

import re
import sys
from types import TracebackType

from skipln_fairseq.common.errors import UserError

__all__ = ["apply"]


def apply() -> None:
    """Show what the user can put right as a ``UserError``, where nothing but the command could catch it.

    Only inside fairseq's commands: a script that imports this package keeps its tracebacks.
    """
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        problem = None
        if inside_a_command(trace):
            problem = users_problem(error) or told_by_a_command(error, trace)
        if problem:
            previous(UserError, UserError(problem), None)
        else:
            previous(kind, error, trace)

    sys.excepthook = hook


def users_problem(error: BaseException) -> str | None:
    """What to tell the user; ``None`` for a bug, a full disk, a lost connection."""
    match error:
        case UnicodeError() if _encoding_of(error) != "utf-8":
            return (
                f"this process reads and writes text as {error.encoding}, which cannot hold it; set "
                f"PYTHONIOENCODING=utf-8 and a UTF-8 locale ({error})"
            )
        case UnicodeError():
            return f"text in the wrong encoding, UTF-8 is expected: {error}"
        case FileExistsError(errno=None):  # fairseq-preprocess, of a dictionary
            return f"{error} exists already; remove what is in its folder"
        case (
            FileNotFoundError()
            | FileExistsError()
            | NotADirectoryError()
            | IsADirectoryError()
            | PermissionError()
        ):
            return str(error)
        case OSError(errno=None) if type(error) is OSError:  # fairseq-generate: "Model file not found"
            return str(error)
        case Exception() if type(error) is Exception:  # fairseq's words to its user, of a too long sentence
            return " ".join(str(error).split())
        case AssertionError() if str(error) == "Must specify --max-tokens":
            return "--num-batch-buckets acts only beside --max-tokens"
        # the search found no word to go on with: fairseq's own, and ours in one call
        case AssertionError() if re.fullmatch(r"(\d+) < \1|.* no hypothesis of it has ended", str(error)):
            return "the model's probabilities are NaN or infinite: the training that wrote it had diverged"
        case ValueError() if str(error).startswith("--"):  # of flags; all of them may come behind it
            return str(error).partition(": {")[0]
    return None


def told_by_a_command(error: BaseException, trace: TracebackType | None) -> str | None:
    """What a command itself asserts of its flags, in words; deeper down an assertion is about the code."""
    last = None
    while trace:
        last, trace = trace, trace.tb_next
    ours = last is not None and _of_a_command(last)
    return " ".join(str(error).split()) if ours and isinstance(error, AssertionError) and str(error) else None


def _of_a_command(trace: TracebackType) -> bool:
    return trace.tb_frame.f_globals.get("__package__") == "fairseq_cli"


def _encoding_of(error: UnicodeError) -> str:
    return getattr(error, "encoding", "utf-8").lower().replace("utf8", "utf-8")


def inside_a_command(trace: TracebackType | None) -> bool:
    """Whether a function of ``fairseq_cli`` was running."""
    while trace:
        if _of_a_command(trace):
            return True
        trace = trace.tb_next
    return False
