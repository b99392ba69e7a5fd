"""The demo's scores, samples, learning curve and progress."""

import sacrebleu
from rich.console import Console

from examples.demo import report
from examples.demo.progress import bar


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
