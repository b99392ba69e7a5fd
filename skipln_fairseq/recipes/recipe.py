"""A recipe as its YAML file says it: every file, every step of the text, every hyper-parameter.

source-lang: de
target-lang: en
work-dir: runs/iwslt14-de-en            # unless --work-dir is given
files:                                  # what is downloaded, or found in --from; a checksum where it is published
  - {url: https://…/de-en.tgz, checksum: "md5:…", tried: false}
corpus:                                 # of each part, pairs of files, see corpora.py: [SOURCE, TARGET] or one
                                        # path in which {lang} is either language
  train: ["de-en.tgz/de-en/train.tags.de-en.{lang}"]
  valid: {every: 23}                    # or pairs of files: each 23rd pair of train, which loses them
  test: […]
clean: {longest: 175, ratio: 1.5}       # of training pairs, in words
text: {moses: true, lowercase: true}    # see text.py
replace: {test: {"’": "'"}}             # characters of a part which its tokens have otherwise
subwords: {kind: subword-nmt, size: 10000}
tokens-per-update: 8192                 # on all devices together: --update-freq follows
average: 5                              # checkpoints of the last epochs that are averaged; 0: the best one
variants: {baseline: {…}, pre-ln: {…}, rskip: {…}}
train: {…}                              # fairseq-train's flags
generate: {…}                           # fairseq-generate's
score:
  bleu: {…}                             # of sacreBLEU
  compound-split: true                  # for old papers' BLEU: hyphens are words
  tokenised: true                       # and the corpus comes as tokens
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common.errors import UserError
from ..runs.bleu import check_bleu
from ..runs.settings import Flags, check_flags, check_keys, check_mapping, read_settings
from .download import Source
from .subwords import KINDS
from .text import Text

__all__ = ["PARTS", "Recipe", "read_recipe"]

PARTS = ("train", "valid", "test")
NEEDED = (
    *("source-lang", "target-lang", "work-dir", "files", "corpus", "subwords"),
    *("variants", "train", "generate"),
)
OPTIONAL = ("clean", "text", "replace", "tokens-per-update", "average", "score")
TEXT = ("nfc", "moses", "normalise", "split_hyphens", "lowercase")
SCORE = ("compound-split", "tokenised")
LANGUAGE = re.compile(r"[\w-]+")
FILE_NAME = re.compile(r"[^/\\\0]+")
CHECKSUM = re.compile(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}")
NOT_HERE = (
    *("save-dir", "user-dir", "update-freq", "distributed-world-size", "seed"),
    *("path", "gen-subset", "remove-bpe", "results-path", "quiet", "score-reference"),
)


@dataclass(frozen=True)
class Recipe:
    """All of the file, checked."""

    name: str
    source_lang: str
    target_lang: str
    work_dir: Path
    files: tuple[Source, ...]
    corpus: Mapping[str, Any]
    clean: Mapping[str, float]
    text: Mapping[str, Any]
    replace: Mapping[str, Mapping[str, str]]
    subwords: Mapping[str, Any]
    tokens_per_update: int
    average: int
    variants: Mapping[str, Flags]
    train: Flags
    generate: Flags
    score: Mapping[str, Any]

    @property
    def langs(self) -> tuple[str, str]:
        """Source and target."""
        return self.source_lang, self.target_lang

    def check_variant(self, variant: str) -> None:
        """Refuse one that there is not."""
        if variant not in self.variants:
            raise UserError(f"--variant {variant}: valid are {', '.join(self.variants)}")

    def text_of(self, lang: str) -> Text:
        """How this language's text is written."""
        return Text(lang, **self.text)


def read_recipe(file: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        UserError: names the file and what is wrong.
    """
    content = read_settings(file)
    try:
        return _recipe(file.stem, content)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def _recipe(name: str, content: Any) -> Recipe:
    check_keys("the recipe", content, NEEDED, OPTIONAL)
    _check_words_and_numbers(content)
    check_keys("corpus", content["corpus"], PARTS)
    for part in PARTS:
        _check_part(part, content["corpus"][part])
    check_mapping("variants", content["variants"])
    train = check_flags("train", content["train"], NOT_HERE)
    if content.get("tokens-per-update"):
        _check_number("train: max-tokens, with tokens-per-update,", train.get("max-tokens"), 1)
    return Recipe(
        name=name,
        source_lang=content["source-lang"],
        target_lang=content["target-lang"],
        work_dir=Path(content["work-dir"]),
        files=tuple(_source(entry) for entry in content["files"] or ()),
        corpus=content["corpus"],
        clean=_clean(content.get("clean") or {"longest": 250, "ratio": 1.5}),
        text=_text(_section("text", content, (*TEXT, "drop"))),
        replace=_replace(_section("replace", content, PARTS)),
        subwords=_subwords(content["subwords"]),
        tokens_per_update=content.get("tokens-per-update", 0),
        average=content.get("average", 0),
        variants={
            str(key): check_flags(f"variants: {key}", value, NOT_HERE)
            for key, value in content["variants"].items()
        },
        train=train,
        generate=check_flags("generate", content["generate"], NOT_HERE),
        score=_score(_section("score", content, ("bleu", *SCORE))),
    )


def _check_words_and_numbers(content: Mapping[str, Any]) -> None:
    for key in ("source-lang", "target-lang", "work-dir"):
        if not isinstance(content[key], str):
            raise UserError(
                f"{key} {content[key]}: valid is a word, in quotation marks if it is one of YAML's"
            )
    source, target = content["source-lang"], content["target-lang"]
    for lang in (source, target):
        if not LANGUAGE.fullmatch(lang):
            raise UserError(f"language {lang!r}: valid are letters, digits, _ and -, which end a file's name")
    if source == target:
        raise UserError(f"source-lang and target-lang are both {source}")
    if not isinstance(content["files"] or [], list):
        raise UserError(f"files {content['files']}: valid is a list")
    for key in ("tokens-per-update", "average"):
        _check_number(key, content.get(key, 0), 0)


def _section(name: str, content: Mapping[str, Any], keys: tuple[str, ...]) -> Mapping[str, Any]:
    """What may be left out, or empty."""
    section = content.get(name) or {}
    if section:
        check_keys(name, section, (), keys)
    return section


def _check_switches(name: str, section: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    for key in keys:
        if not isinstance(section.get(key, False), bool):
            raise UserError(f"{name}: {key} {section[key]}: valid are true and false")


def _text(section: Mapping[str, Any]) -> Mapping[str, Any]:
    _check_switches("text", section, TEXT)
    if not isinstance(section.get("drop", ""), str):
        raise UserError(f"text: drop {section['drop']}: valid are characters, in quotation marks")
    return section


def _subwords(section: Any) -> Mapping[str, Any]:
    check_keys("subwords", section, ("kind", "size"))
    if section["kind"] not in KINDS:
        raise UserError(f"subwords: kind {section['kind']!r}: valid are {', '.join(KINDS)}")
    _check_number("subwords: size", section["size"], 1)
    return section


def _clean(section: Any) -> Mapping[str, float]:
    check_keys("clean", section, ("longest", "ratio"))
    _check_number("clean: longest", section["longest"], 1)
    _check_number("clean: ratio", section["ratio"], 1, (int, float))
    return section


def _score(section: Mapping[str, Any]) -> Mapping[str, Any]:
    _check_switches("score", section, SCORE)
    check_bleu("score: bleu", check_flags("score: bleu", section.get("bleu")))
    return section


def _replace(section: Mapping[str, Any]) -> Mapping[str, Any]:
    for part, others in section.items():
        check_mapping(f"replace: {part}", others)
        for old, new in others.items():
            if not isinstance(old, str) or len(old) != 1 or not isinstance(new, str):
                raise UserError(
                    f"replace: {part}: {old}: valid is one character and what stands there instead"
                )
    return section


def _check_number(name: str, value: Any, least: int, types: type | tuple[type, ...] = int) -> None:
    if isinstance(value, bool) or not isinstance(value, types) or value < least:
        raise UserError(
            f"{name} {value}: valid is a {'whole ' if types is int else ''}number of at least {least}"
        )


def _check_part(part: str, value: Any) -> None:
    if isinstance(value, dict) and part == "valid":
        check_keys("corpus: valid", value, ("every",))
        _check_number("corpus: valid: every", value["every"], 2)
    elif not isinstance(value, list) or not value or not all(map(_is_pair, value)):
        raise UserError(
            f"corpus: {part}: valid is a list of paths with {{lang}} in them, or of [SOURCE, TARGET]"
        )


def _is_pair(entry: Any) -> bool:
    if isinstance(entry, list):
        return len(entry) == 2 and all(isinstance(path, str) for path in entry)
    return isinstance(entry, str) and "{lang}" in entry


def _source(entry: Any) -> Source:
    check_keys("files", entry, (), ("name", "url", "checksum", "tried"))
    name, url, checksum = (entry.get(key) for key in ("name", "url", "checksum"))
    if not (url or name):
        raise UserError("files: each has a url or a name")
    if url is not None and not (isinstance(url, str) and re.match(r"(https?|ftp)://", url)):
        raise UserError(f"files: url {url}: valid is an address with https://, http:// or ftp://")
    name = url.rsplit("/", 1)[-1] if name is None else name
    if not isinstance(name, str) or name in ("", ".", "..") or not FILE_NAME.fullmatch(name):
        raise UserError(f"files: name {name!r}: valid is a file's name, without a folder")
    if checksum is not None and not CHECKSUM.fullmatch(str(checksum)):
        raise UserError(f"files: {name}: checksum {checksum}: valid are md5:… and sha256:…, in hexadecimal")
    _check_switches(f"files: {name}", entry, ("tried",))
    return Source(name, url, checksum, entry.get("tried", False))
