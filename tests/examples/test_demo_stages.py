"""The demo's own machinery: stages that are reused or resumed, commands that fail, scores, bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sacrebleu
from rich.console import Console

from examples.demo import __main__ as demo
from examples.demo import commands, own_files, report, stages, subwords, training
from examples.demo.pairs import Pair
from examples.demo.progress import bar
from skipln_fairseq.common.errors import UserError
from skipln_fairseq.runs import Stages, locked, read_lines
from skipln_fairseq.runs.command import LAST_LINES
from tests.support.commands import REPOSITORY

# --- stages ------------------------------------------------------------------------------------


class Builder:
    """A stage's work that counts its calls and can be interrupted half way."""

    def __init__(self):
        self.calls = 0
        self.interrupt = False
        self.found = None

    def __call__(self, folder):
        self.calls += 1
        self.found = sorted(file.name for file in folder.iterdir())
        (folder / "half").write_text("x")
        if self.interrupt:
            raise KeyboardInterrupt
        (folder / "whole").write_text("x")


def test_a_complete_stage_is_reused(tmp_path):
    build = Builder()
    first, reused = Stages(tmp_path).run("a", {"n": 1}, build)
    assert not reused
    assert Stages(tmp_path).run("a", {"n": 1}, build) == (first, True)
    assert build.calls == 1


def test_an_interrupted_stage_is_done_again_from_nothing(tmp_path):
    build = Builder()
    build.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path).run("a", {}, build)
    build.interrupt = False
    folder, reused = Stages(tmp_path).run("a", {}, build)
    assert not reused
    assert build.found == []
    assert (folder / "whole").exists()


def test_a_resumable_stage_goes_on_with_what_is_there(tmp_path):
    build = Builder()
    build.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path).run("a", {}, build, resumable=True)
    build.interrupt = False
    Stages(tmp_path).run("a", {}, build, resumable=True)
    assert build.found == ["half"]


def test_other_settings_here_or_in_an_earlier_stage_make_another_folder(tmp_path):
    def second(first_settings, second_settings):
        stages = Stages(tmp_path)
        stages.run("a", first_settings, lambda folder: None)
        return stages.run("b", second_settings, lambda folder: None)[0]

    folders = {second({"n": n}, {"m": m}) for n in (1, 2) for m in (1, 2)}
    assert len(folders) == 4
    assert second({"n": 1}, {"m": 1}) in folders


def test_a_second_demo_is_kept_out_of_the_folder(tmp_path):
    with locked(tmp_path, "demo"), pytest.raises(UserError, match="another demo"), locked(tmp_path, "demo"):
        pass
    with locked(tmp_path, "demo"):
        pass


def test_a_work_dir_that_cannot_be_made_is_said_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--work-dir"), locked(tmp_path / "file" / "below", "demo"):
        pass


# --- commands ----------------------------------------------------------------------------------


def test_a_command_is_printed_logged_and_read_line_by_line(tmp_path):
    said, lines = [], []
    script = "print('one two'); print('three')"
    commands.run([sys.executable, "-c", script], tmp_path / "log", said.append, lines.append)
    assert said == [f"$ {sys.executable} -c 'print('\"'\"'one two'\"'\"'); print('\"'\"'three'\"'\"')'"]
    assert lines == ["one two\n", "three\n"]
    assert (tmp_path / "log").read_text() == "one two\nthree\n"


def test_a_failing_command_shows_its_last_lines_and_its_log(tmp_path):
    said = []
    script = "for i in range(100): print('line', i)\nraise SystemExit(7)"
    with pytest.raises(UserError, match=r"exit status 7.*log") as caught:
        commands.run([sys.executable, "-c", script], tmp_path / "log", said.append)
    assert "\n" not in str(caught.value)
    assert said[1:] == [f"  line {i}" for i in range(100 - LAST_LINES, 100)]


def test_what_torchrun_says_about_its_end_does_not_hide_the_cause(tmp_path):
    said = []
    script = """
print('the cause')
print('W1 torch/distributed/elastic/multiprocessing/api.py:1] Sending process 2 closing signal SIGTERM')
for i in range(100): print('line', i)
raise SystemExit(1)"""
    with pytest.raises(UserError):
        commands.run([sys.executable, "-c", script], tmp_path / "log", said.append)
    assert said[1:] == ["  the cause"]
    assert "line 99" in (tmp_path / "log").read_text()


def test_an_interruption_ends_the_command_too(tmp_path):
    def interrupt(line):
        raise KeyboardInterrupt

    script = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        commands.run([sys.executable, "-c", script], tmp_path / "log", lambda text: None, interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "log").read_text()), 0)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_a_killed_demo_takes_its_command_along(tmp_path):
    sleeper = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]
    script = f"""
from pathlib import Path
from examples.demo import commands
commands.run({sleeper!r}, Path("log"), print, lambda line: os.kill(os.getpid(), signal.SIGKILL))
"""
    demo_process = subprocess.run(
        [sys.executable, "-c", "import os, signal" + script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
    )
    assert demo_process.returncode == -signal.SIGKILL
    for _ in range(50):
        if not _lives(int((tmp_path / "log").read_text())):
            return
        time.sleep(0.1)
    raise AssertionError("the command goes on without the demo")


def _lives(process: int) -> bool:
    """Whether it runs: a zombie, whose parent has not asked for its exit status, does not."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


# --- training ----------------------------------------------------------------------------------


def test_every_flag_shapes_the_models_fingerprint():
    base = training.Recipe("transformer_rskip", 100, 1, 1)
    others = [
        training.Recipe("transformer", 100, 1, 1),
        training.Recipe("transformer_rskip", 200, 1, 1),
        training.Recipe("transformer_rskip", 100, 2, 1),
        training.Recipe("transformer_rskip", 100, 1, 2),
        training.Recipe("transformer_rskip", 100, 1, 1, ("--skip-order", "3")),
    ]
    assert all(other.settings() != base.settings() for other in others)


def test_processes_share_the_tokens_of_an_update():
    one, two = (training.Recipe("transformer_rskip", 100, 1, n).flags() for n in (1, 2))
    tokens = [int(flags[flags.index("--max-tokens") + 1]) for flags in (one, two)]
    assert tokens[0] == 2 * tokens[1] == training.TOKENS_PER_UPDATE


# --- sub-words ---------------------------------------------------------------------------------


def test_sentences_survive_being_written_and_read(tmp_path):
    strange = ["plain", "a\u2028b", '[brackets] \\ | "quotes"']
    subwords.write_plain({"train": [Pair("1", text, text[::-1]) for text in strange]}, tmp_path, "de")
    assert read_lines(tmp_path / "train.en") == strange
    assert read_lines(tmp_path / "train.de") == [text[::-1] for text in strange]


def test_a_small_corpus_has_fewer_sub_words(tmp_path, monkeypatch):
    """As the generated one, which the demo takes where no other can be had."""
    monkeypatch.setattr(commands, "run", lambda *_: None)
    pairs = [Pair("1", "ab ba", "aa bb")] * 3
    subwords.write_plain({"train": pairs, "valid": pairs, "test": pairs}, tmp_path, "de")
    subwords.prepare(tmp_path, tmp_path, "de", demo.VOCABULARY, print)
    assert 4 < len(read_lines(tmp_path / "subwords.vocab")) < 20
    with pytest.raises(UserError, match="--vocabulary 3: not possible with this corpus"):
        subwords.prepare(tmp_path, tmp_path, "de", 3, print)


# --- report ------------------------------------------------------------------------------------


def test_bleu_is_sacrebleus():
    translations = ["Das ist ein kleiner Test.", "Die Katze sitzt, glaube ich."]
    references = ["Das ist ein großer Test.", "Die Katze sitzt, denke ich."]
    score, signature = report.bleu(translations, references, "de")
    assert score == sacrebleu.corpus_bleu(translations, [references]).score
    assert "tok:13a" in signature
    assert "case:mixed" in signature
    assert report.bleu(["你好"], ["你好"], "zh-cn")[1].count("tok:zh") == 1


def test_the_copy_of_the_source_is_scored_beside_the_translation():
    console = Console(record=True, width=100)
    sources, references = ["The cat sits here now."], ["Die Katze sitzt jetzt hier."]
    report.print_scores(console, sources, references, references, "de")
    text = console.export_text()
    assert "100.0" in next(line for line in text.splitlines() if "translation" in line)
    assert "copy of the source" in text
    assert "version:" in text


def test_samples_show_text_that_looks_like_markup():
    console = Console(record=True, width=100)
    report.print_samples(console, ["[red]x[/]"], ["[/nonsense]"], ["y [bold]"], seed=1)
    text = console.export_text()
    assert all(part in text for part in ("[red]x[/]", "[/nonsense]", "y [bold]"))


def test_the_learning_curve_is_a_picture(tmp_path):
    records = [{"num_updates": 20.0, "nll_loss": 9.5}, {"valid_num_updates": 20.0, "valid_nll_loss": 8.5}]
    report.draw_curve(records, "title", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_sparkline_falls_with_the_loss():
    records = [{"num_updates": n, "nll_loss": 8.0 - n} for n in range(8)]
    assert report.sparkline(records) == report.BARS[::-1]
    assert report.sparkline([]) == ""


def test_progress_is_printed_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setattr("examples.demo.progress.SECONDS_BETWEEN_LINES", 0)
    console = Console(record=True, force_terminal=False, width=100)
    with bar(console, "training", 100) as advance:
        advance(10, "")
        advance(20, "epoch 1")
    lines = console.export_text().splitlines()
    assert lines[1].startswith("training: 10 of 100")
    assert lines[2].startswith("training: epoch 1, left: 0:")


# --- bad input ---------------------------------------------------------------------------------


@pytest.fixture
def two_files(tmp_path):
    files = tmp_path / "text.en", tmp_path / "text.de"
    for file in files:
        file.write_text("one\ntwo\nthree\n", "utf-8")
    return files


def test_own_files_are_paired_line_by_line(two_files):
    two_files[1].write_bytes("\ufeffeins \r\nzwei\u2028halb\r\ndrei".encode())
    pairs = own_files.read_pairs(*two_files)
    assert [(p.source, p.target) for p in pairs] == [("one", "eins"), ("two", "zwei halb"), ("three", "drei")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"one\ntwo\n", r"text\.en has 3 lines and .*text\.de has 2"),
        (b"one\n \nthree\n", r"text\.de, line 2: empty"),
        (b"one\ntwo\nt\xe4\n", r"text\.de, line 3: not UTF-8"),
        (b"", r"text\.de, line 1: empty"),
        (None, r"cannot read .*text\.de: No such file"),
    ],
)
def test_bad_own_files_are_refused_in_one_line(two_files, content, message):
    if content is None:
        two_files[1].unlink()
    else:
        two_files[1].write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        own_files.read_pairs(*two_files)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--source a.txt", "--source and --target go together"),
        ("--source a --target b --corpus vscode", "contradict"),
        ("--updates 3", "--updates 3: valid is a whole number of at least 10"),
        ("--max-words 1", "--max-words 1"),
        ("--vocabulary 1", "--vocabulary 1"),
        ("--threads 0", "--threads 0"),
        ("--seed -1", "--seed -1"),
        ("--target-lang en", "--target-lang en"),
        ("--target-lang ../de", "--target-lang"),
        ("--arch transformer_rskipp", "--arch transformer_rskipp: valid are .*transformer_rskip,"),
        ("--arch lstm", "--arch lstm: valid are"),
    ],
)
def test_bad_flags_are_refused_before_any_work(arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        stages.check(demo.parse(arguments.split()))
    assert "\n" not in str(caught.value)


def test_good_flags_pass():
    stages.check(demo.parse([]))
    args = demo.parse(["--arch", "transformer", "--", "--skip-order", "3"])
    stages.check(args)
    assert args.flags == ["--skip-order", "3"]


def test_the_command_ends_in_one_line_without_traceback_and_leaves_nothing(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "examples.demo",
            "--source",
            "no-file",
            "--target",
            "no-file",
            "--work-dir",
            "work",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    complaint = [line for line in done.stderr.splitlines() if "Warning" not in line and "warn" not in line]
    assert (
        complaint[-1]
        == "demo: error: cannot read no-file: No such file or directory; give two text files in UTF-8"
    )
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "work").glob("corpus*"))


def test_too_few_own_lines_leave_no_complete_corpus(two_files, tmp_path):
    args = demo.parse(
        ["--source", str(two_files[0]), "--target", str(two_files[1]), "--work-dir", str(tmp_path / "work")]
    )
    with pytest.raises(UserError, match="too few sentence pairs"):
        stages.main(args)
    assert not list((tmp_path / "work").glob("*/complete.json"))


def test_complete_stages_tell_their_settings(tmp_path):
    folder, _ = Stages(tmp_path).run("a", {"n": 1}, lambda folder: None)
    assert json.loads((folder / "complete.json").read_text()) == {"n": 1}
