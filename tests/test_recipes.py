"""examples/recipes: corpora in their real formats, downloads that break off, and each recipe from files to scores."""

import gzip
import hashlib
import http.server
import io
import itertools
import json
import math
import tarfile
import threading
from pathlib import Path

import pytest
import sacrebleu
import yaml
from conftest import REPOSITORY

from examples.recipes import __main__ as recipes
from examples.recipes import corpora, download
from examples.recipes.evaluate import tokenised_bleu
from examples.recipes.recipe import read_recipe
from examples.recipes.text import Text, fits
from examples.recipes.train import Devices, train_command
from skipln_fairseq.errors import UserError
from skipln_fairseq.runs import read_lines

RECIPES = ("iwslt14-de-en", "iwslt15-en-vi", "wmt14-en-de", "multi30k-en-de", "own-data")
NOUNS = {"cat": "Katze", "dog": "Hündin", "cow": "Kuh", "hen": "Henne", "fox": "Füchsin", "owl": "Eule"}
VERBS = {"sees": "sieht", "hears": "hört", "follows": "verfolgt", "loves": "liebt"}
PAIRS = [
    (
        f"The {a} {verb} the well-known {b} & the {c}.",
        f"Die {NOUNS[a]} {VERBS[verb]} die bekannte {NOUNS[b]} & die {NOUNS[c]}.",
    )
    for a, b, c in itertools.permutations(NOUNS, 3)
    for verb in VERBS
]


def side(lang, pairs=PAIRS):
    return [german if lang in ("de", "vi") else english for english, german in pairs]


# --- files -------------------------------------------------------------------------------------


def plain(lines):
    return "".join(f"{line}\n" for line in lines).encode()


def tagged(lines):
    """As IWSLT's train.tags files: a talk's tags, then a sentence a line, not escaped."""
    head = "<url>http://www.ted.com/talks/x</url>\n<keywords>talks</keywords>\n<talkid>7</talkid>\n"
    head += f"<title>{lines[0]}</title>\n<description>{lines[1]}</description>\n"
    return head.encode() + plain(lines[2:])


def xml(lines, tag="seg"):
    """NIST's format, as IWSLT's .xml and WMT's .sgm files: escaped, spaces within."""
    segments = "".join(
        f'<{tag} id="{n}"> {line.replace("&", "&amp;")} </{tag}>\n' for n, line in enumerate(lines, start=1)
    )
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<mteval>\n<srcset setid="x" srclang="any">\n'
    return f'{head}<doc docid="1">\n<title>No sentence</title>\n{segments}</doc>\n</srcset>\n</mteval>\n'.encode()


def archive(file, members):
    with tarfile.open(file, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


TRAIN, VALID, TEST = PAIRS[:300], PAIRS[300:320], PAIRS[320:350]


def write_files(name, folder):
    """A small slice of a recipe's files, in their formats."""
    if name == "iwslt14-de-en":
        members = {f"de-en/train.tags.de-en.{lang}": tagged(side(lang, TRAIN)) for lang in ("de", "en")}
        tests = ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")
        for number, test in enumerate(tests):
            for lang in ("de", "en"):
                content = xml(side(lang, TEST[6 * number : 6 * number + 6]))
                members[f"de-en/IWSLT14.{test}.de-en.{lang}.xml"] = content
        archive(folder / "de-en.tgz", members)
    elif name == "wmt14-en-de":
        corpora_of = {
            "training-parallel-europarl-v7.tgz": ("training/europarl-v7.de-en.{}", TRAIN[:100]),
            "training-parallel-commoncrawl.tgz": ("./commoncrawl.de-en.{}", TRAIN[100:200]),
            "training-parallel-nc-v9.tgz": ("training/news-commentary-v9.de-en.{}", TRAIN[200:]),
        }
        for file, (member, pairs) in corpora_of.items():
            archive(folder / file, {member.format(lang): plain(side(lang, pairs)) for lang in ("en", "de")})
        valid = {f"test/newstest2013-src.{lang}.sgm": xml(side(lang, VALID)) for lang in ("en", "de")}
        archive(folder / "test.tgz", valid)
        test = {
            "test-full/newstest2014-deen-src.en.sgm": xml(side("en", TEST)),
            "test-full/newstest2014-deen-ref.de.sgm": xml(side("de", TEST)),
        }
        archive(folder / "test-full.tgz", test)
    else:
        names = {
            "iwslt15-en-vi": ("train.{}", "tst2012.{}", "tst2013.{}"),
            "multi30k-en-de": ("train.{}.gz", "val.{}.gz", "test_2016_flickr.{}.gz"),
            "own-data": ("train.{}", "valid.{}", "test.{}"),
        }[name]
        for pattern, pairs in zip(names, (TRAIN, VALID, TEST), strict=True):
            for lang in ("en", "vi" if name == "iwslt15-en-vi" else "de"):
                content = plain(side(lang, pairs))
                pack = gzip.compress if pattern.endswith(".gz") else bytes
                (folder / pattern.format(lang)).write_bytes(pack(content))


def small(name, folder, **changes):
    """A recipe with few sub-words and without the published checksums, which slices do not have."""
    content = yaml.safe_load((REPOSITORY / "examples" / name / "recipe.yaml").read_text())
    content["subwords"]["size"] = 110
    for file in content["files"]:
        file.pop("checksum", None)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({**content, **changes}))
    return str(file)


@pytest.fixture
def prepared(tmp_path):
    """Prepare a recipe from a slice."""

    def prepare(name, *arguments, **changes):
        files = tmp_path / "files"
        files.mkdir(exist_ok=True)
        write_files(name, files)
        recipe = small(name, tmp_path, **changes)
        work = tmp_path / "work"
        recipes.main(
            ["prepare", recipe, "--from", str(files), "--work-dir", str(work), "--workers", "1", *arguments]
        )
        return recipe, work

    return prepare


def lines(file):
    return file.read_text().splitlines()


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_is_prepared_from_its_real_formats(name, prepared):
    recipe, work = prepared(name)
    langs = read_recipe(Path(recipe)).langs
    for lang in langs:
        assert lines(work / f"test.{lang}") == side(lang, TEST)
    (tokens,) = work.glob("tokens-*")
    counts = json.loads((tokens / "counts.json").read_text())
    assert counts["test"] == 30
    assert counts["train"] + (counts["valid"] if name == "iwslt14-de-en" else 0) == 300
    assert counts["valid"] == (13 if name == "iwslt14-de-en" else 20)
    for part in ("train", "valid", "test"):
        assert (work / "binary" / f"{part}.{langs[0]}-{langs[1]}.{langs[1]}.bin").stat().st_size > 100
    dictionary = (work / "binary" / f"dict.{langs[0]}.txt").read_text()
    assert len(dictionary.splitlines()) > 20


def test_what_is_prepared_is_not_prepared_again(prepared, tmp_path):
    _, work = prepared("own-data")
    before = {file: file.stat().st_mtime_ns for file in work.glob("*-*/*")}
    prepared("own-data")
    assert {file: file.stat().st_mtime_ns for file in work.glob("*-*/*")} == before
    prepared("own-data", subwords={"kind": "sentencepiece", "size": 100})
    assert len(list(work.glob("pieces-*"))) == len(list(work.glob("binary-*"))) == 2
    assert len(list(work.glob("text-*"))) == 1
    assert len(lines(work / "binary" / "dict.en.txt")) < 100


def test_own_text_that_has_changed_is_prepared_again(prepared, tmp_path):
    _, work = prepared("own-data")
    before = (work / "binary").resolve()
    recipe, files = str(tmp_path / "recipe.yaml"), tmp_path / "files"
    (files / "test.en").write_bytes(plain(reversed(side("en", TEST))))
    recipes.main(["prepare", recipe, "--from", str(files), "--work-dir", str(work), "--workers", "1"])
    assert lines(work / "test.en") == side("en", TEST)[::-1]
    assert (work / "binary").resolve() != before


def test_public_files_that_have_changed_are_refused(prepared, tmp_path):
    prepared("multi30k-en-de")
    recipe, files = str(tmp_path / "recipe.yaml"), tmp_path / "files"
    (files / "val.en.gz").write_bytes(gzip.compress(plain(side("en", VALID)[::-1])))
    with pytest.raises(UserError, match=r"val\.en\.gz is sha256:.* is recorded in"):
        recipes.main(["prepare", recipe, "--from", str(files), "--work-dir", str(tmp_path / "work")])


def test_lines_end_at_line_feeds(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rtwo\nthree")
    assert read_lines(tmp_path / "a") == ["one", "two\rtwo", "three"]


def test_moses_text_is_as_the_literature_has_it(prepared):
    _, work = prepared("wmt14-en-de")
    words = TEST[0][0].split()
    expected = f"{words[0]} {words[1]} {words[2]} the well @-@ known {words[5]} &amp; the {words[8][:-1]} ."
    assert lines(work / "test.tokens.en")[0] == expected
    _, work = prepared("iwslt14-de-en")
    assert lines(work / "test.tokens.de")[0].startswith("die ")


def test_sides_of_other_lengths_are_refused(tmp_path):
    write_files("own-data", tmp_path)
    (tmp_path / "train.de").write_text("one\n")
    arguments = ["prepare", "own-data", "--from", str(tmp_path), "--work-dir", str(tmp_path / "work")]
    with pytest.raises(UserError, match=r"train\.en and train\.de have not the same number of sentences"):
        recipes.main(arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["iwslt14-de-en", "--from", "."], r"de-en\.tgz is missing: put there what https://wit3\.fbk\.eu/"),
        (["own-data"], r"train\.en is missing: give --from FOLDER with train\.en in it"),
    ],
)
def test_a_missing_file_is_named_with_where_to_put_it(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        recipes.main(["prepare", *arguments, "--work-dir", str(tmp_path)])


def test_a_file_that_an_archive_lacks_is_named(tmp_path):
    archive(tmp_path / "a.tgz", {"x": b"1\n"})
    with pytest.raises(UserError, match=r"a\.tgz holds no y/z"):
        list(corpora.read("a.tgz/y/z", lambda name: tmp_path / name))


@pytest.mark.parametrize("name", ["broken.tgz", "broken.gz", "cut.gz", "latin1.txt"])
def test_damaged_files_are_refused_in_one_line(tmp_path, name):
    content = gzip.compress(b"line\n" * 1000)[:-20][:40] + b"x" * 30 if name == "cut.gz" else b"Stra\xdfe\n"
    (tmp_path / name).write_bytes(content)
    path = f"{name}/x" if name.endswith("tgz") else name
    with pytest.raises(UserError) as error:
        list(corpora.read(path, lambda name: tmp_path / name))
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_only_line_feeds_end_a_sentence():
    stream = io.BytesIO("a\u2028b\x85c\r\nd\n".encode())
    assert list(corpora.lines_of(stream, "train.en")) == ["a\u2028b\x85c", "d"]


def test_a_part_of_a_file_is_taken_by_its_lines(tmp_path):
    (tmp_path / "a").write_text("1\n2\n3\n4\n")
    found = {part: list(corpora.read(part, lambda name: tmp_path / name)) for part in ("a#1-2", "a#3-", "a")}
    assert found == {"a#1-2": ["1", "2"], "a#3-": ["3", "4"], "a": ["1", "2", "3", "4"]}


def test_text_of_two_origins_is_written_alike():
    text = Text("vi", drop="'\"’", nfc=True)
    assert text.tokens('the user \'s "e\u0301" , isn’t') == "the user s é , isn t"


def test_pairs_of_unfit_lengths_are_dropped():
    assert fits("a b", "a b c", 3, 1.5)
    assert not fits("a b", "a b c d", 4, 1.5)
    assert not fits("a b c", "a b c", 2, 1.5)
    assert not fits("", "a", 2, 9)


def test_processes_tokenise_in_order():
    text, sentences = Text("en", moses=True), [f"Number {n}, it is." for n in range(1200)]
    assert list(text.all_tokens(iter(sentences), 2)) == [text.tokens(line) for line in sentences]


def test_tokens_become_plain_text_again():
    text = Text("en", moses=True, split_hyphens=True)
    for sentence in ("It's a well-known \"cat\", isn't it?", "A & B cost $5 (or 4%)."):
        assert text.plain(text.tokens(sentence)) == sentence


# --- downloads ---------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path):
    """A server of files that knows ranges, and breaks off after ``limit`` bytes of an answer."""
    (tmp_path / "public").mkdir()
    state = {"limit": None, "ranges": []}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            file = tmp_path / "public" / self.path.lstrip("/")
            if not file.is_file():
                self.send_error(404)
                return
            content = file.read_bytes()
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
            state["ranges"].append(start)
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:][: state["limit"]])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        state["url"] = f"http://127.0.0.1:{http_server.server_port}"
        yield state
        http_server.shutdown()


def test_a_download_that_broke_off_goes_on(server, tmp_path):
    content = bytes(range(256)) * 1000
    (tmp_path / "public" / "a.bin").write_bytes(content)
    source, said = download.Source("a.bin", f"{server['url']}/a.bin"), []
    server["limit"] = 100_000
    for _ in range(2):
        with pytest.raises(UserError, match=r"cannot be downloaded \(\d+ of 256000 bytes came\)"):
            download.fetch(source, tmp_path / "d", None, said.append)
    server["limit"] = None
    assert download.fetch(source, tmp_path / "d", None, said.append).read_bytes() == content
    assert server["ranges"] == [0, 100_000, 200_000]
    assert not (tmp_path / "d" / "a.bin.part").exists()
    assert said[0].endswith("(an address that has not been tried)")


def test_what_is_not_there_is_said_with_what_to_do(server, tmp_path):
    source = download.Source("b.bin", f"{server['url']}/b.bin")
    with pytest.raises(UserError, match=r"/b\.bin cannot be downloaded .* give --from FOLDER"):
        download.fetch(source, tmp_path / "d", None, print)


@pytest.mark.parametrize("published", [True, False])
def test_another_file_than_it_was_is_refused(tmp_path, published):
    (tmp_path / "a").write_bytes(b"right")
    checksum = f"md5:{hashlib.md5(b'right').hexdigest()}" if published else None
    source = download.Source("a", "http://nowhere/a", checksum)
    download.fetch(source, tmp_path / "d", tmp_path, print)
    (tmp_path / "a").write_bytes(b"wrong")
    with pytest.raises(UserError, match="published" if published else "recorded in"):
        download.fetch(source, tmp_path / "d", tmp_path, print)


# --- recipes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_variants_differ_in_one_choice_only(name, tmp_path):
    recipe = read_recipe(REPOSITORY / "examples" / name / "recipe.yaml")
    commands = {
        variant: train_command(recipe, variant, 1, tmp_path, Devices(), {})
        for variant in ("baseline", "pre-ln", "rskip")
    }
    words = [set(command) for command in commands.values()]
    assert words[1] - words[0] == {"--norm-placement", "pre", str(tmp_path / "pre-ln-1")}
    assert words[2] - words[0] == {"recursive", "--skip-order", "2", str(tmp_path / "rskip-1")} - words[0]


def test_an_update_has_the_same_tokens_on_any_devices(tmp_path):
    recipe = read_recipe(REPOSITORY / "examples" / "wmt14-en-de" / "recipe.yaml")

    def freq(devices, **extra):
        line = train_command(recipe, "rskip", 1, tmp_path, devices, extra)
        return int(line[line.index("--update-freq") + 1]), line

    assert freq(Devices())[0] == 8
    assert freq(Devices(processes=8))[0] == 1
    found, line = freq(Devices(processes=2, nodes=2, rendezvous="first:29500"))
    assert found == 2
    assert line[:5] == ["torchrun", "--nproc_per_node", "2", "--nnodes", "2"]
    assert "first:29500" in line
    with pytest.raises(UserError, match="give --max-tokens 2048"):
        freq(Devices(processes=16))
    with pytest.raises(UserError, match="--rendezvous HOST:PORT"):
        freq(Devices(nodes=2))


TINY = {
    "arch": "transformer_rskip_tiny",
    "share-all-embeddings": True,
    "criterion": "label_smoothed_cross_entropy",
    "optimizer": "adam",
    "lr": 0.003,
    "max-tokens": 400,
    "max-epoch": 2,
    "keep-last-epochs": 2,
    "num-workers": 0,
    "log-interval": 1,
}


def test_two_processes_train_wmt_and_its_scores_are_those_of_its_files(prepared, tmp_path, capsys):
    recipe, work = prepared("wmt14-en-de", train=TINY, average=2, **{"tokens-per-update": 800})
    rest = [recipe, "--work-dir", str(work), "--variant", "rskip", "--cpu"]
    recipes.main(["train", *rest, "--processes", "2"])
    said = capsys.readouterr().out
    assert "$ torchrun --nproc_per_node 2 --no-python fairseq-train" in said
    log = (work / "rskip-1" / "train.log").read_text()
    assert "distributed init (rank 1)" in log
    recipes.main(["evaluate", *rest])
    scores = json.loads((work / "rskip-1" / "scores.json").read_text())
    assert scores["checkpoint"] == "checkpoint_averaged.pt"
    hypotheses = lines(work / "rskip-1" / "test.hypotheses")
    assert len(hypotheses) == 30
    assert scores["bleu"] == sacrebleu.corpus_bleu(hypotheses, [side("de", TEST)]).score
    assert "tok:13a" in scores["bleu_signature"]
    assert scores["compound_split"] is True


def test_a_lower_cased_recipe_is_trained_on_and_scored(prepared):
    recipe, work = prepared("iwslt14-de-en", train={**TINY, "max-update": 4}, average=0)
    rest = [recipe, "--work-dir", str(work), "--variant", "baseline", "--cpu"]
    with pytest.raises(UserError, match="run train first"):
        recipes.main(["evaluate", *rest])
    recipes.main(["train", *rest])
    recipes.main(["train", *rest, "--max-update", "6"])
    log = (work / "baseline-1" / "train.log").read_text()
    assert "Loaded checkpoint" in log
    with pytest.raises(UserError, match=r"baseline-1 was begun otherwise \(dropout 0.3\)"):
        recipes.main(["train", *rest, "--dropout", "0.3"])
    with pytest.raises(UserError, match="--update-freq: this command sets it itself"):
        recipes.main(["train", *rest, "--update-freq", "2"])
    recipes.main(["evaluate", *rest])
    scores = json.loads((work / "baseline-1" / "scores.json").read_text())
    assert "case:lc" in scores["bleu_signature"]
    assert scores["checkpoint"] == "checkpoint_best.pt"
    assert {"tokenised_bleu", "chrf"} <= scores.keys()


def test_tokenised_bleu_is_multi_bleus():
    hypotheses = ["the cat sat on the mat .", "a well-known dog barks"]
    references = ["the cat is on the mat .", "a well-known dog barks loudly"]
    # of the 1- to 4-grams of 11 words, and 12 words in the references
    precision = (10 / 11) * (7 / 9) * (4 / 7) * (2 / 5)
    expected = 100 * math.exp(1 - 12 / 11) * precision**0.25
    assert tokenised_bleu(hypotheses, references, False) == pytest.approx(expected)
    # with "well ##AT##-##AT## known" 13 words and 14
    precision = (12 / 13) * (9 / 11) * (6 / 9) * (4 / 7)
    expected = 100 * math.exp(1 - 14 / 13) * precision**0.25
    assert tokenised_bleu(hypotheses, references, True) == pytest.approx(expected)
    apart = [[line.replace("-", " @-@ ") for line in each] for each in (hypotheses, references)]
    assert tokenised_bleu(*apart, True) == tokenised_bleu(*apart, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nothing"], "nothing: no such recipe: valid are iwslt14-de-en"),
        (["train", "own-data", "--variant", "x"], "binary is missing: run prepare first"),
        (["train", "own-data", "--processes", "0"], "valid is a whole number of at least 1"),
        (["prepare", "own-data", "--lr", "1"], "--lr: prepare has no such flag"),
        (["train", "own-data", "stray"], "stray: valid are fairseq-train's flags"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        recipes.main([*arguments, "--work-dir", str(tmp_path)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subwords": {"kind": "x", "size": 1}}, "kind 'x': valid are sentencepiece, subword-nmt"),
        (
            {"corpus": {"train": ["a"], "valid": ["{lang}"], "test": ["{lang}"]}},
            "corpus: train: valid is a list",
        ),
        ({"train": {"save-dir": "x"}}, "save-dir is set by this command itself"),
        ({"files": [{"tried": True}]}, "each has a url or a name"),
        ({"text": {"mose": True}}, "text has 'mose'"),
        ({"more": 1}, "the recipe has 'more'"),
    ],
)
def test_a_recipe_with_a_mistake_is_refused_in_one_line(change, message, tmp_path):
    with pytest.raises(UserError, match=message) as error:
        read_recipe(Path(small("own-data", tmp_path, **change)))
    assert "\n" not in str(error.value)


def test_every_download_that_was_not_tried_says_so():
    for name in RECIPES:
        content = yaml.safe_load((REPOSITORY / "examples" / name / "recipe.yaml").read_text())
        assert all("tried" in entry for entry in content["files"] if "url" in entry)
