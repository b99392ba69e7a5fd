"""Compiled C and its cache: compiled once, and nothing loaded that is damaged or that others may have put there."""

import ctypes
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from skipln_fairseq.nn.kernels import cache, compiled
from tests.support.commands import run

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
SOMEONE = 12345

ANSWER = """
import sys
from pathlib import Path
from skipln_fairseq.nn.kernels import compiled

libraries = [compiled.load(Path(source)) for source in sys.argv[2:]]
print("answers:", *(library and library.answer() for library in libraries))
"""

LEAVE = """
import torch
from skipln_fairseq.nn.kernels.leave import cpu, leave

print("answers:", cpu.fits(torch.ones(1)), leave(torch.ones(2, 4), torch.ones(2, 4)).sum().item())
leave(torch.ones(2, 4), torch.ones(2, 4))
"""


class Machine:
    """A user's cache, temporary folder and compiler, which counts what it compiles."""

    def __init__(self, folder: Path):
        self.home, self.log, self.temporary = folder / "home", folder / "log", folder / "tmp"
        self.cache = self.home / "skipln_fairseq"
        self.home.mkdir(0o700)
        self.temporary.mkdir()
        self.log.touch()
        self.source = folder / "one.c"
        self.source.write_text("int answer(void) { return 42; }\n")
        counted = f'case " $* " in *" -o "*) echo compiled >> {self.log} ;; esac\n'
        self.compiler = self.script("counting-cc", f'{counted}exec cc "$@"')

    def script(self, name: str, text: str) -> Path:
        script = self.home.parent / name
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
        return script

    def run(self, code: str = ANSWER, *sources: Path, **variables):
        """What a process prints as answers, and its warnings; it leaves nothing in the temporary folder."""
        env = {"XDG_CACHE_HOME": self.home, "TMPDIR": self.temporary, "CC": self.compiler, **variables}
        done = run("-c", code, *(sources or [self.source]), env={k: str(v) for k, v in env.items()})
        assert not list(self.temporary.iterdir())
        (answers,) = (line for line in done.output.splitlines() if line.startswith("answers: "))
        return answers.removeprefix("answers: "), [
            line for line in done.output.splitlines() if "kernels" in line
        ]

    def compiled(self) -> int:
        return len(self.log.read_text().splitlines())

    def library(self) -> Path:
        (library,) = self.cache.iterdir()
        return library

    def plant(self, text: str = "int answer(void) { return 666; }\n") -> Path:
        """In the library's place another one, whole and of the right name."""
        kept = self.library()
        evil = self.source.with_name("evil.c")
        evil.write_text(text)
        subprocess.run(["cc", "-shared", "-fPIC", evil, "-o", evil.with_suffix(".so")], check=True)
        content = evil.with_suffix(".so").read_bytes()
        planted = kept.with_name(f"{kept.stem.rpartition('-')[0]}-{hashlib.sha256(content).hexdigest()}.so")
        kept.unlink()
        planted.write_bytes(content)
        planted.chmod(0o600)
        return planted


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@needs_compiler
def test_a_machine_compiles_once(machine):
    for _ in range(2):
        assert machine.run() == ("42", [])
        assert machine.compiled() == 1
    assert machine.cache.stat().st_mode & 0o777 == 0o700
    assert machine.library().stat().st_mode & 0o777 == 0o600


@needs_compiler
def test_folders_are_this_users_alone(machine):
    old = os.umask(0)
    try:
        machine.run(XDG_CACHE_HOME=machine.home / "a" / "b")
    finally:
        os.umask(old)
    folders = [machine.home / "a", machine.home / "a" / "b", machine.home / "a" / "b" / "skipln_fairseq"]
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700] * 3


@needs_compiler
def test_a_cache_named_by_a_relative_path_is_none(machine):
    assert machine.run(XDG_CACHE_HOME=os.path.relpath(machine.home / "here"), HOME=machine.home) == ("42", [])
    assert len(list((machine.home / ".cache" / "skipln_fairseq").iterdir())) == 1
    assert not (machine.home / "here").exists()


@needs_compiler
@pytest.mark.parametrize("damage", ["cut short", "empty", "one byte", "no library", "a folder"])
def test_what_is_damaged_is_compiled_again(machine, damage):
    machine.run()
    library = machine.library()
    whole = library.read_bytes()
    if damage == "a folder":
        library.unlink()
        library.mkdir()
    elif damage == "no library":  # whole, but of no use here
        library.unlink()
        text = b"another system's"
        other = f"{library.stem.rpartition('-')[0]}-{hashlib.sha256(text).hexdigest()}.so"
        library.with_name(other).write_bytes(text)
    else:
        broken = {
            "cut short": whole[: len(whole) // 2],
            "empty": b"",
            "one byte": whole[:-9] + b"!" + whole[-8:],
        }
        library.write_bytes(broken[damage])
    answer, warnings = machine.run()
    assert (answer, len(warnings), machine.compiled()) == ("42", damage == "a folder", 2)
    if damage != "a folder":
        assert library.read_bytes() == whole
        assert machine.run() == ("42", [])
        assert machine.compiled() == 2


@needs_compiler
def test_a_planted_library_would_be_loaded_if_it_were_ours(machine):
    """So the tests that follow say something."""
    machine.run()
    machine.plant()
    assert machine.run() == ("666", [])


@needs_compiler
@pytest.mark.parametrize("mode", [0o660, 0o602])
def test_a_file_that_others_may_write_to_is_not_loaded(machine, mode):
    machine.run()
    machine.plant().chmod(mode)
    assert machine.run() == ("42", [])


@needs_compiler
@pytest.mark.parametrize("which", ["cache", "home"])
@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_folder_that_others_may_write_to_is_not_used(machine, which, mode):
    machine.run()
    machine.plant()
    getattr(machine, which).chmod(mode)
    answer, (warning,) = machine.run()
    assert answer == "42"
    assert "without a cache" in warning
    assert str(getattr(machine, which)) in warning
    assert len(list(machine.cache.iterdir())) == 1, "nothing is written there either"


@needs_compiler
def test_a_shared_disk_where_nobody_moves_anothers_folder(machine):
    machine.home.chmod(0o1777)
    for _ in range(2):
        assert machine.run() == ("42", [])
    assert machine.compiled() == 1


@needs_compiler
@as_root
def test_what_another_user_owns_is_not_loaded(machine):
    machine.run()
    os.chown(machine.plant(), SOMEONE, -1)
    assert machine.run() == ("42", [])
    planted = machine.cache
    os.chown(planted, SOMEONE, -1)
    answer, (warning,) = machine.run()
    assert answer == "42"
    assert "belongs to another user" in warning


@needs_compiler
def test_a_link_is_not_loaded(machine):
    machine.run()
    planted = machine.plant()
    planted.rename(machine.home / "elsewhere.so")
    planted.symlink_to(machine.home / "elsewhere.so")
    assert machine.run() == ("42", [])


FULL = """
import errno, os
def fsync(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
os.fsync = fsync
"""


@needs_compiler
def test_a_full_disk(machine):
    """One compile a source and process, and one warning for all."""
    two = machine.source.with_name("two.c")
    two.write_text("int answer(void) { return 43; }\n")
    answer, (warning,) = machine.run(FULL + ANSWER, machine.source, two, machine.source)
    assert answer == "42 43 42"
    assert "No space left on device" in warning
    assert machine.compiled() == 2
    assert not list(machine.cache.iterdir())


@needs_compiler
def test_a_cache_that_cannot_be_made(machine):
    (machine.home / "file").touch()
    answer, (warning,) = machine.run(XDG_CACHE_HOME=machine.home / "file")
    assert answer == "42"
    assert "Not a directory" in warning


@needs_compiler
def test_a_cache_comes_before_the_eager_form(machine):
    (machine.home / "file").touch()
    assert machine.run(LEAVE, CC="cc -g0", XDG_CACHE_HOME=machine.home / "file")[0] == "True 16.0"


@needs_compiler
def test_what_a_killed_process_left_is_removed(machine, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine.home))
    cache.keep("other", b"text")
    old, new = machine.cache / ".one-1.partial", machine.cache / ".one-2.partial"
    for file in (old, new):
        file.touch()
    os.utime(old, (0, 0))
    machine.run()
    assert not old.exists()
    assert new.exists(), "perhaps it is being written now"


@pytest.mark.parametrize(
    ("compiler", "why"),
    [
        ("cc '-O2", 'CC is "cc \'-O2": No closing quotation'),
        ("no-such-compiler", "No such file or directory: 'no-such-compiler'"),
        ("/", "Permission denied: '/'"),
        ("false", "non-zero exit status"),
        ("true", "No such file or directory"),
        pytest.param("cc --no-such-flag", "unrecognized", marks=needs_compiler),
    ],
)
def test_without_a_compiler_there_is_one_line(machine, compiler, why):
    answer, (warning,) = machine.run(CC=compiler)
    assert answer == "None"
    assert "slower torch operations take their place" in warning
    assert why in warning
    assert machine.run(LEAVE, CC=compiler)[0] == "False 16.0"


@needs_compiler
def test_flags_of_the_environment_come_last(machine):
    machine.source.write_text("int answer(void) { return sizeof(int) * ANSWER; }\n")
    assert machine.run(SKIPLN_CFLAGS="-DANSWER=3 '-DNOTHING=a b'") == ("12", [])
    assert machine.run(SKIPLN_CFLAGS="-DANSWER=4") == ("16", [])
    assert machine.compiled() == 2
    answer, (warning,) = machine.run(SKIPLN_CFLAGS="'")
    assert answer == "None"
    assert 'SKIPLN_CFLAGS is "\'": No closing quotation' in warning


@needs_compiler
def test_a_flag_of_the_environment_takes_back_ours(machine):
    machine.source.write_text("int answer(void) { return __STDC_VERSION__ / 100; }\n")
    assert machine.run()[0] == "2011"
    assert machine.run(SKIPLN_CFLAGS="-std=c99")[0] == "1999"


def test_the_line_is_not_repeated_for_another_source(machine):
    answer, warnings = machine.run(ANSWER, machine.source, machine.source.with_name("two.c"), CC="cc '")
    assert (answer, len(warnings)) == ("None None", 1)


@needs_compiler
def test_a_name_follows_from_all_that_the_library_depends_on(machine):
    source, header = machine.source, machine.source.with_name("deep.h")
    source.write_text('#include "middle.h"\nint answer(void) { return FORTY + 2; }\n')
    source.with_name("middle.h").write_text('#include "deep.h"\n')
    header.write_text("#define FORTY 40\n")
    launcher = str(machine.script("launcher", 'exec "$@"'))  # as ccache is one
    other = machine.script("other-cc", 'exec cc -DAN_INSTRUCTION_SET "$@"')
    version = machine.script("new-cc", 'test "$1" = --version && echo 99 || exec cc "$@"')
    compilers = [["cc"], ["cc", "-g0"], [launcher, "cc"], [launcher, "cc", "-g0"], [launcher, str(other)]]
    names = [compiled._name(compiler, source) for compiler in [*compilers, [str(other)], [str(version)]]]
    assert len(set(names)) == len(names)
    assert names == [
        compiled._name(compiler, source) for compiler in [*compilers, [str(other)], [str(version)]]
    ]

    before = compiled._name([str(other)], source), compiled._name([str(version)], source)
    other.write_text(other.read_text().replace("AN_INSTRUCTION_SET", "ANOTHER"))
    version.write_text(version.read_text().replace("99", "100"))
    header.write_text("#define FORTY 41\n")
    assert compiled._name([str(other)], source) != before[0]
    assert compiled._name([str(version)], source) != before[1]
    assert compiled._name(["cc"], source) != names[0]


@needs_compiler
def test_a_library_in_use_outlives_its_private_folder(machine, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    library = compiled._compile(["cc", "-shared", "-fPIC"], machine.source, "one")
    assert isinstance(library, ctypes.CDLL)
    assert not Path(library._name).exists()
    assert library.answer() == 42
