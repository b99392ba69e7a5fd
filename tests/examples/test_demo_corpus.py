"""The demo's corpora: what is aligned with what, what is held out, what is said when there is none."""

import io
import json
import random
import tarfile

import pytest

from examples.demo import corpus, libreoffice, vscode
from examples.demo.corpus import SOURCES, Source, obtain
from examples.demo.help_pages import align, read_page, split_into_sentences
from examples.demo.pairs import Limits, Pair, divide, length
from examples.demo.tools import CorpusUnavailable, call
from skipln_fairseq.common.errors import UserError

PAGE = """<html><head><title>x</title></head><body>
<header><p id="menu">Menu</p></header>
<div id="DisplayArea"><h1 id="hd_1" dir="auto"><a name="x"></a>{title}</h1>
<p id="par_1" class="paragraph">Press <span id="s" class="switchinline"><span hidden="true" id="MACx"
 class="MAC">Command </span><span hidden="true" id="defaultx">Ctrl</span></span>+Z
 &amp;   <b>go</b>.</p>
<div class="embedded"><p class="embedded">{embedded}</p></div>
<p id="par_2" class="paragraph">{second}<br>Line.</p>
<p id="par_3" class="code">Print "x"</p>
</div><footer><p id="foot">This page is</p></footer></body></html>"""


def english():
    return PAGE.format(title="Undo", embedded="Embedded text", second="Second")


def german():
    return PAGE.format(title="Rückgängig", embedded="Eingebetteter Text", second="Zweiter")


def test_a_page_is_its_text_area_with_default_alternatives_and_single_spaces():
    assert [(p.id, p.text) for p in read_page(english())] == [
        ("hd_1", "Undo"),
        ("par_1", "Press Ctrl+Z & go."),
        ("", "Embedded text"),
        ("par_2", "Second Line."),
        ("par_3", 'Print "x"'),
    ]


def test_pages_of_one_skeleton_are_aligned_in_full_but_for_code():
    assert align(read_page(english()), read_page(german())) == [
        ("Undo", "Rückgängig", True),
        ("Press Ctrl+Z & go.", "Press Ctrl+Z & go.", True),
        ("Embedded text", "Eingebetteter Text", False),
        ("Second Line.", "Zweiter Line.", True),
    ]


def test_pages_that_differ_are_aligned_by_id_alone():
    shifted = german().replace('<p id="par_1"', '<p>Neu</p><p id="par_1"')
    assert [source for source, _, _ in align(read_page(english()), read_page(shifted))] == [
        "Undo",
        "Press Ctrl+Z & go.",
        "Second Line.",
    ]


def test_an_id_that_a_page_uses_twice_aligns_nothing():
    twice = german().replace('id="par_2"', 'id="par_1"')
    assert [source for source, _, _ in align(read_page(english()), read_page(twice))] == ["Undo"]


def test_an_id_that_both_pages_use_twice_aligns_nothing_either():
    twice = [page.replace('id="par_2"', 'id="par_1"') for page in (english(), german())]
    shifted = twice[1].replace('<p id="par_1"', '<p>Neu</p><p id="par_1"', 1)
    assert [source for source, _, _ in align(read_page(twice[0]), read_page(shifted))] == ["Undo"]


def test_paragraphs_split_only_into_equally_many_sentences():
    two = ("Open the file. Then save it.", "Öffnen Sie die Datei. Dann speichern Sie sie.")
    assert split_into_sentences(*two) == [
        ("Open the file.", "Öffnen Sie die Datei."),
        ("Then save it.", "Dann speichern Sie sie."),
    ]
    assert split_into_sentences("Open it now. Save it.", "Öffnen und speichern.") == [
        ("Open it now. Save it.", "Öffnen und speichern.")
    ]
    assert split_into_sentences("Use e.g. Ctrl keys.", "Mit z. B. Strg.") == [
        ("Use e.g. Ctrl keys.", "Mit z. B. Strg.")
    ]


def test_help_folders_give_certain_paragraphs_and_uncertain_sentences(tmp_path):
    second = "The first one. The second one."
    for lang, page in (("en", english()), ("de", german())):
        (tmp_path / lang / "guide").mkdir(parents=True)
        page = page.replace("Second", second).replace("Zweiter", "Der erste Satz. Der zweite Satz.")
        (tmp_path / lang / "guide" / "undo.html").write_text(page, "utf-8")
    (tmp_path / "en" / "only-english.html").write_text(english(), "utf-8")
    pairs = libreoffice.read_pairs(tmp_path / "en", tmp_path / "de")
    assert {pair.page for pair in pairs} == {"guide/undo.html"}
    certain = {pair.source: pair.certain for pair in pairs}
    assert certain["The first one. The second one. Line."] is True
    assert certain["The first one."] is False
    assert certain["Embedded text"] is False


# --- holding out -------------------------------------------------------------------------------


def repetitive_corpus(pages=60, per_page=12, seed=0):
    """Pages full of sentences that other pages have too, in other case, spacing, digits, translation."""
    rng = random.Random(seed)
    words = ["alpha", "beta", "gamma", "delta", "omega", "kappa", "sigma"]
    pairs = []
    for page in range(pages):
        for _ in range(per_page):
            chosen = [rng.choice(words) for _ in range(5)]
            source, target = " ".join(chosen), " ".join(word[::-1] for word in chosen)
            if rng.random() < 0.3:
                source = f"{source.upper()} {rng.randrange(9)}!"
            if rng.random() < 0.3:
                target += " other"
            pairs.append(Pair(str(page), source, target, certain=rng.random() < 0.7))
    return pairs


def letters(text):
    return "".join(c for c in text.casefold() if c.isalpha())


@pytest.mark.parametrize("seed", range(5))
def test_no_held_out_sentence_stands_in_an_earlier_part(seed):
    parts = divide(repetitive_corpus(seed=seed), Limits(valid=20, test=40), seed)
    assert len(parts["test"]) == 40
    assert len(parts["valid"]) == 20
    for seen, later in (("test", "valid"), ("test", "train"), ("valid", "train")):
        for side in ("source", "target"):
            held_out = {letters(getattr(pair, side)) for pair in parts[seen]}
            assert held_out.isdisjoint(letters(getattr(pair, side)) for pair in parts[later])


@pytest.mark.parametrize("seed", range(5))
def test_whole_pages_are_held_out_and_only_certain_pairs(seed):
    parts = divide(repetitive_corpus(seed=seed), Limits(valid=20, test=40), seed)
    pages = {part: {pair.page for pair in pairs} for part, pairs in parts.items()}
    assert pages["test"].isdisjoint(pages["valid"])
    assert (pages["test"] | pages["valid"]).isdisjoint(pages["train"])
    assert all(pair.certain for part in ("test", "valid") for pair in parts[part])
    assert not all(pair.certain for pair in parts["train"])


def test_division_follows_the_seed():
    pairs = repetitive_corpus()
    limits = Limits(valid=20, test=40)
    assert divide(pairs, limits, 1) == divide(pairs, limits, 1)
    assert divide(pairs, limits, 1)["test"] != divide(pairs, limits, 2)["test"]


def test_useless_pairs_are_left_out():
    good = [
        Pair(str(i), f"word{chr(97 + i)} one two three", f"wort{chr(97 + i)} eins zwei drei")
        for i in range(20)
    ]
    bad = [
        Pair("x", "the same here now", "the same here now"),
        Pair("x", "", "leer eins zwei drei"),
        Pair("x", "12 + 13 = 25 !", "12 + 13 = 25 ."),
        Pair("x", "long " * 30, "lang " * 30),
        Pair("x", "lopsided", "sehr viel mehr als auf der anderen Seite"),
        Pair("x", "WORDA one two three!", "worta eins zwei drei"),
    ]
    parts = divide(good + bad, Limits(valid=2, test=3), 1)
    assert sum(len(pairs) for pairs in parts.values()) == len(good)


def test_too_few_pairs_are_refused_with_numbers():
    with pytest.raises(UserError, match="usable") as caught:
        divide(repetitive_corpus(pages=2), Limits(), 1)
    assert "1000 test" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_length_counts_words_and_letters_of_unspaced_scripts():
    assert length("two words") == 2
    assert length("打开文件 now") == 3


# --- VS Code's language packs ------------------------------------------------------------------


def test_pseudo_language_reads_as_english():
    assert (
        undo("Ïñspëçt thïs ïñ thë æççëssïþlë vïëw wïth {0}.")
        == "Inspect this in the accessible view with {0}."
    )
    assert undo("§ëærçh ðøµþlÿ, ßÿ £ïñës: Ñø Çøðë Üñðër Ýøµ") == "Search doubly, By Lines: No Code Under You"


def undo(text):
    return vscode.undo_pseudo(text)


def test_the_letter_swap_is_one_to_one():
    swapped = vscode.FROM_PSEUDO
    assert len(set(swapped.values())) == len(swapped)
    assert all(chr(value).isascii() for value in swapped.values())


def pack(path, main, extension):
    with tarfile.open(path, "w:gz") as tar:
        lines = "".join(
            f"\t{json.dumps(text, ensure_ascii=False) if text else 'undefined'},\n" for text in main
        )
        main_file = f"var content = [\n{lines[:-2]}\n];\n\nexport {{ content as default }};\n"
        files = {"main.i18n.json.js": main_file, "extensions/vscode.git.i18n.json": json.dumps(extension)}
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/translations/{name}")
            member.size = len(content.encode())
            tar.addfile(member, io.BytesIO(content.encode()))


def test_language_packs_are_paired_by_place_and_by_name(tmp_path):
    pack(
        tmp_path / "vscode-qps-ploc.tgz",
        [None, "Øpëñ &&Fïlë", "ünµsëð"],
        {"": ["licence"], "contents": {"bundle": {"a#b": "Çløsë\n{0}"}}},
    )
    pack(
        tmp_path / "vscode-de.tgz",
        [None, "&&Datei öffnen"],
        {"": ["licence"], "contents": {"bundle": {"a#b": "{0} schließen"}, "package": {"x": "Nur deutsch"}}},
    )
    pairs = {(pair.source, pair.target) for pair in vscode.fetch("de", tmp_path)}
    assert pairs == {("Open File", "Datei öffnen"), ("Close {0}", "{0} schließen")}


def test_a_language_without_a_pack_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"--target-lang xx.*de, es") as caught:
        vscode.fetch("xx", tmp_path)
    assert not isinstance(caught.value, CorpusUnavailable)


def test_a_file_that_is_no_pack_makes_the_corpus_unavailable(tmp_path):
    (tmp_path / "vscode-qps-ploc.tgz").write_bytes(b"half a download")
    with pytest.raises(CorpusUnavailable, match=r"vscode-qps-ploc\.tgz"):
        vscode.fetch("de", tmp_path)


# --- choosing ----------------------------------------------------------------------------------


def source(result):
    def fetch(target_lang, cache):
        if isinstance(result, Exception):
            raise result
        return result

    return Source("a test's", fetch)


PAIRS = [Pair("1", "a", "b")]


def test_auto_takes_the_first_that_can_be_had_and_says_why_not_the_others(monkeypatch, tmp_path):
    monkeypatch.setattr(
        corpus, "SOURCES", {"one": source(CorpusUnavailable("no network")), "two": source(PAIRS)}
    )
    found = obtain("auto", "de", tmp_path)
    assert (found.name, found.pairs, found.skipped) == ("two", PAIRS, ("one: no network",))


def test_auto_does_not_go_on_after_a_mistake_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setattr(
        corpus, "SOURCES", {"one": source(UserError("no such language")), "two": source(PAIRS)}
    )
    with pytest.raises(UserError, match="no such language"):
        obtain("auto", "xx", tmp_path)


def test_one_line_when_there_is_no_corpus_at_all(monkeypatch, tmp_path):
    failing = {name: source(CorpusUnavailable(f"{name} is away")) for name in ("one", "two")}
    monkeypatch.setattr(corpus, "SOURCES", failing)
    with pytest.raises(UserError, match=r"one is away; two: two is away.*--source") as caught:
        obtain("auto", "de", tmp_path)
    assert "\n" not in str(caught.value)


def test_an_unknown_corpus_is_refused_with_the_valid_names(tmp_path):
    with pytest.raises(UserError, match="--corpus europarl: valid are auto, libreoffice, vscode, generated"):
        obtain("europarl", "de", tmp_path)


def test_the_generator_is_a_corpus_and_knows_german_only(tmp_path):
    assert len(SOURCES["generated"].fetch("de", tmp_path)) == corpus.GENERATED_PAIRS
    with pytest.raises(UserError, match="--target-lang fr"):
        SOURCES["generated"].fetch("fr", tmp_path)


# --- programs that are called ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "timeout", "message"),
    [
        (["no-such-program-here"], 5, "there is no no-such-program-here here"),
        (["sh", "-c", "echo note >&2; echo 'E: cannot resolve' >&2; exit 100"], 5, "E: cannot resolve"),
        (["sh", "-c", "exit 3"], 5, "no message"),
        (["sleep", "30"], 0.1, "longer than"),
    ],
)
def test_a_failing_program_makes_a_corpus_unavailable_in_one_line(command, timeout, message):
    with pytest.raises(CorpusUnavailable, match=message) as caught:
        call(command, timeout)
    assert "\n" not in str(caught.value)


def test_without_apt_there_is_no_help(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CorpusUnavailable, match="no apt-get"):
        libreoffice.fetch("de", tmp_path)
