"""``fairseq-preprocess`` says how far it has come."""

import logging
import re

import pytest
from fairseq.binarizer import FileBinarizer, VocabularyDatasetBinarizer
from fairseq.data import Dictionary

from skipln_fairseq import compat
from skipln_fairseq.compat import preprocess_progress

LINES = 400


@pytest.fixture
def told(tmp_path, monkeypatch, caplog):
    """Count words and number them; the shares that were told, of each of the two passes."""
    compat.apply()
    monkeypatch.setattr(preprocess_progress, "LINES", 10)
    text = tmp_path / "text.de"
    text.write_text("".join(f"wörter in Zeile {n}\n" for n in range(LINES)), "utf-8")

    def passes(workers):
        dictionary, found = Dictionary(), []
        with caplog.at_level(logging.INFO, "fairseq_cli.preprocess"):
            for read in (
                lambda: Dictionary.add_file_to_dictionary(str(text), dictionary, str.split, workers),
                lambda: FileBinarizer.multiprocess_dataset(
                    str(text),
                    "mmap",
                    VocabularyDatasetBinarizer(dictionary),
                    str(tmp_path / "out"),
                    None,
                    workers,
                ),
            ):
                caplog.clear()
                read()
                found.append([int(n) for n in re.findall(rf"{text}: (\d+) % read", caplog.text)])
        return found

    return passes


def test_both_passes_are_told_to_their_ends(told, monkeypatch):
    monkeypatch.setattr(preprocess_progress, "SECONDS", 0)
    for shares in told(1):
        assert shares == sorted(shares)
        assert len(shares) == LINES / 10
        assert shares[-1] == 100


def test_what_other_processes_read_counts(told, monkeypatch):
    monkeypatch.setattr(preprocess_progress, "SECONDS", 0)
    _, numbering = told(2)  # of counting, this process does nothing and hears nothing
    assert numbering[0] >= 50  # the other half is numbered first
    assert numbering[-1] > 95  # the last few lines of each part are not counted


def test_a_small_corpus_is_not_spoken_of(told):
    assert told(1) == [[], []]
