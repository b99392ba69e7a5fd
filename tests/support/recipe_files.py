"""Slices of the recipes' corpora in their real formats."""

import gzip
import io
import itertools
import tarfile

import yaml

from skipln_fairseq.recipes import __main__ as recipes

KNOWN = recipes.KNOWN
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
    content = yaml.safe_load((KNOWN / f"{name}.yaml").read_text())
    content["subwords"]["size"] = 110
    for file in content["files"]:
        file.pop("checksum", None)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({**content, **changes}))
    return str(file)


def prepare_slice(name, *arguments, folder, **changes):
    """Prepare a recipe from a slice; gives its file and its work directory."""
    files, work = folder / "files", folder / "work"
    files.mkdir(exist_ok=True)
    write_files(name, files)
    recipe = small(name, folder, **changes)
    line = ["prepare", recipe, "--from", str(files), "--work-dir", str(work), "--workers", "1"]
    recipes.main([*line, *arguments])
    return recipe, work
