"""Only what the user can put right, and only inside a command, loses its traceback."""

import errno

import pytest

from skipln_fairseq.compat.commands import told_by_a_command, users_problem
from tests.compat.test_bad_data import one_line
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


@pytest.mark.parametrize(
    ("command", "flags", "said"),
    [
        (
            "fairseq-preprocess",
            "--joined-dictionary --srcdict a --tgtdict b",
            "cannot use both --srcdict and --tgtdict with --joined-dictionary",
        ),
        (
            "fairseq-preprocess",
            "",
            "--trainpref must be set if --srcdict is not specified",
        ),
        ("fairseq-train", ". --arch transformer_rskip_tiny --cpu --batch-size 0", "--batch-size 0: valid is"),
        (
            "fairseq-train",
            ". --arch transformer_rskip_tiny --cpu",
            "Must specify batch size either with --max-tokens",
        ),
    ],
)
def test_what_a_command_asserts_of_its_flags_is_one_line(command, flags, said, texts, tmp_path):
    where = ("-s", "en", "-t", "de", "--destdir", tmp_path / "out", "--testpref", texts / "test")
    where = where if command == "fairseq-preprocess" else ()
    assert said in one_line(run(command, *flags.split(), *where, succeeds=False))


def test_what_is_asserted_deeper_down_keeps_its_traceback():
    """The innermost function says whose assertion it is."""

    def library():
        raise AssertionError("a bug")

    command = {"__package__": "fairseq_cli"}
    exec("def main(inner):\n    inner()\n    raise AssertionError('give\\n --inner')", command)
    for inner, told in ((str, "give --inner"), (library, None)):
        with pytest.raises(AssertionError) as caught:
            command["main"](inner)
        assert told_by_a_command(caught.value, caught.value.__traceback__) == told
