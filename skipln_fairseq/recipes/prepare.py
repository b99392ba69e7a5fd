"""From the corpus's files to what fairseq trains on: text, tokens, sub-words, binary data. Each step is done once."""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from ..common.errors import UserError
from ..runs import Stages
from . import corpora, subwords
from .commands import USER_DIR, run
from .download import fetch, identity
from .recipe import PARTS, Recipe
from .text import fits

__all__ = ["prepare"]

Pairs = Iterator[tuple[str, str]]

READ = re.compile(r"([^/\s]+): (\d+) % read")
"""How fairseq-preprocess says how far it has come."""


def prepare(
    recipe: Recipe, work_dir: Path, local: Path | None, workers: int, say: Callable[[str], None]
) -> Path:
    """Everything up to ``work_dir/binary``, a link to the data; ``work_dir/test.LANG`` are the plain sentences.

    Args:
        recipe: what to prepare.
        work_dir: of all that is made.
        local: folder with the recipe's files; else they are downloaded.
        workers: processes that tokenise and binarise.
        say: is told what happens.

    Raises:
        UserError: a file is missing, damaged or another one, or its sides have not the same number of lines.
    """
    sources = {source.name: source for source in recipe.files}
    found: dict[str, Path] = {}

    def find(name: str) -> Path:
        if name not in found:
            if name not in sources:
                raise UserError(f"corpus: {name} is none of the recipe's files: {', '.join(sources)}")
            found[name] = fetch(sources[name], work_dir / "downloads", local, say)
        return found[name]

    files = {source.name: identity(source, work_dir / "downloads", local, say) for source in recipe.files}
    stages = Stages(work_dir)
    text, _ = stages.run(
        "text",
        {"corpus": recipe.corpus, "files": files, "langs": recipe.langs},
        lambda folder: _write_text(recipe, find, folder),
    )
    tokens, _ = stages.run(
        "tokens",
        {"text": recipe.text, "replace": recipe.replace, "clean": recipe.clean},
        lambda folder: _write_tokens(recipe, text, folder, workers),
    )
    pieces, _ = stages.run(
        "pieces", dict(recipe.subwords), lambda folder: _write_pieces(recipe, tokens, folder)
    )
    binary, _ = stages.run("binary", {}, lambda folder: _binarise(recipe, pieces, folder, workers, say))
    links = {"binary": binary / "data"}
    links |= {f"test.{lang}": text / f"test.{lang}" for lang in recipe.langs}
    links |= {f"test.tokens.{lang}": tokens / f"test.{lang}" for lang in recipe.langs}
    for name, target in links.items():
        _link(work_dir / name, target)
    return work_dir / "binary"


def _link(link: Path, target: Path) -> None:
    new = link.with_name(link.name + ".new")
    new.unlink(missing_ok=True)
    new.symlink_to(target.relative_to(link.parent))
    new.replace(link)


def _pairs(recipe: Recipe, part: str, find: Callable[[str], Path]) -> Pairs:
    for path in recipe.corpus[part]:
        names = path if isinstance(path, list) else [path.replace("{lang}", lang) for lang in recipe.langs]
        sides = [corpora.read(name, find) for name in names]
        for source, target in itertools.zip_longest(*sides):
            if source is None or target is None:
                raise UserError(f"{names[0]} and {names[1]} have not the same number of sentences")
            yield source, target


def _write(folder: Path, part: str, langs: tuple[str, str], pairs: Pairs, what: str) -> int:
    count = 0
    with (
        (folder / f"{part}.{langs[0]}").open("w", encoding="utf-8") as source,
        (folder / f"{part}.{langs[1]}").open("w", encoding="utf-8") as target,
    ):
        for one, other in tqdm(pairs, desc=f"{what} {part}", unit=" pairs", mininterval=1):
            source.write(one + "\n")
            target.write(other + "\n")
            count += 1
    return count


def _read(folder: Path, part: str, lang: str) -> Iterator[str]:
    with (folder / f"{part}.{lang}").open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield line.rstrip("\n")


def _read_pairs(folder: Path, part: str, langs: tuple[str, str]) -> Pairs:
    return zip(*(_read(folder, part, lang) for lang in langs), strict=True)


def _write_text(recipe: Recipe, find: Callable[[str], Path], folder: Path) -> None:
    """All pairs that are no empty lines; of test all, for its sentences are counted."""
    for part in PARTS:
        if isinstance(recipe.corpus[part], list):
            pairs = _pairs(recipe, part, find)
            if part != "test":
                pairs = ((one, other) for one, other in pairs if one and other)
            if not _write(folder, part, recipe.langs, pairs, "reading"):
                raise UserError(f"corpus: {part}: no sentences in {recipe.corpus[part]}")


def _write_tokens(recipe: Recipe, text: Path, folder: Path, workers: int) -> None:
    counts = {}
    for part in PARTS:
        if not isinstance(recipe.corpus[part], list):
            continue
        others = str.maketrans(recipe.replace.get(part, {}))
        sides = [
            recipe.text_of(lang).all_tokens(
                (line.translate(others) for line in _read(text, part, lang)), workers
            )
            for lang in recipe.langs
        ]
        pairs = zip(*sides, strict=True)
        if part == "train":
            pairs = (pair for pair in pairs if fits(*pair, recipe.clean["longest"], recipe.clean["ratio"]))
        counts[part] = _write(folder, part, recipe.langs, pairs, "tokenising")
    if not isinstance(recipe.corpus["valid"], list):
        counts |= _hold_out(recipe, folder, recipe.corpus["valid"]["every"])
    for part, count in counts.items():
        if not count:
            raise UserError(f"corpus: {part}: no pairs are left of it")
    (folder / "counts.json").write_text(json.dumps(counts) + "\n", "utf-8")


def _hold_out(recipe: Recipe, folder: Path, every: int) -> dict[str, int]:
    """Every n-th pair of train becomes one of valid."""
    for lang in recipe.langs:
        (folder / f"train.{lang}").rename(folder / f"all.{lang}")

    def chosen(held_out: bool) -> Pairs:
        for number, pair in enumerate(_read_pairs(folder, "all", recipe.langs), start=1):
            if (number % every == 0) == held_out:
                yield pair

    counts = {
        part: _write(folder, part, recipe.langs, chosen(part == "valid"), "dividing") for part in PARTS[:2]
    }
    for lang in recipe.langs:
        (folder / f"all.{lang}").unlink()
    return counts


def _write_pieces(recipe: Recipe, tokens: Path, folder: Path) -> None:
    texts = [tokens / f"train.{lang}" for lang in recipe.langs]
    encode = subwords.KINDS[recipe.subwords["kind"]](texts, recipe.subwords["size"], folder)
    for part in PARTS:
        sides = (encode(_read(tokens, part, lang)) for lang in recipe.langs)
        _write(folder, part, recipe.langs, zip(*sides, strict=True), "splitting")


def _binarise(recipe: Recipe, pieces: Path, folder: Path, workers: int, say: Callable[[str], None]) -> None:
    def on_line(line: str) -> None:
        if told := READ.search(line):
            say(f"binarising {told[1]}: {told[2]} %")

    run(
        [
            *("fairseq-preprocess", "--user-dir", USER_DIR),
            *("--source-lang", recipe.source_lang, "--target-lang", recipe.target_lang),
            *("--joined-dictionary", "--workers", str(workers)),
            *(word for part in PARTS for word in (f"--{part}pref", str(pieces / part))),
            *("--destdir", str(folder / "data")),
        ],
        folder / "preprocess.log",
        say,
        on_line,
    )
