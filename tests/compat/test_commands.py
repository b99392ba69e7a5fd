"""Only what the user can put right, and only inside a command, loses its traceback."""

import errno

import pytest

from skipln_fairseq.compat.commands import users_problem
from tests.support.commands import run


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "x.pt"), "No such file: 'x.pt'"),
        (FileNotFoundError("Dataset not found: train"), "Dataset not found: train"),
        (PermissionError(errno.EACCES, "Permission denied", "x.pt"), "Permission denied: 'x.pt'"),
        (OSError("Model file not found: x.pt"), "Model file not found: x.pt"),
        (
            FileExistsError("dict.en.txt"),
            "dict.en.txt exists already; remove what is in its folder",
        ),
        (
            ValueError("--langs and --lang-dict can not both be specified"),
            "--langs and --lang-dict can not both",
        ),
        (
            UnicodeDecodeError("ascii", b"\xc3", 0, 1, "ordinal not in range(128)"),
            "reads and writes text as ascii, which cannot hold it; set PYTHONIOENCODING=utf-8",
        ),
        (UnicodeEncodeError("latin-1", "ł", 0, 1, "ordinal not in range(256)"), "text as latin-1"),
        (AssertionError("15 < 15"), "probabilities are NaN or infinite"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "UTF-8 is expected: 'utf-8'"),
    ],
)
def test_what_the_user_can_put_right(error, problem):
    assert problem in users_problem(error)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ConnectionResetError("peer"),
        ValueError("bug"),
        AssertionError("3 < 2"),
    ],
)
def test_what_keeps_its_traceback(error):
    assert users_problem(error) is None


def test_a_script_that_imports_the_plugin_keeps_its_tracebacks():
    finished = run("-c", "import skipln_fairseq; open('no such file')", succeeds=False)
    assert "Traceback" in finished.output
    assert "FileNotFoundError" in finished.output
