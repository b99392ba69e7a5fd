"""The experiment grid, read from a YAML file.

    title: Skip connections on Multi30k
    baseline: Post-LN
    seeds: [1, 2, 3]
    tune: {flag: lr, values: [0.001, 0.002, 0.004], seed: 1}     # optional
    data:
      multi30k: {path: work/binary, source: work/test.en, reference: work/test.de}
    variants:
      Post-LN: {skip-type: plain}
      rSkip 2: {skip-type: recursive, skip-order: 2}
    train: {arch: transformer_rskip_tiny, max-update: 1000, share-all-embeddings: true, …}
    evaluate: {beam: 5, batch-size: 64, remove-bpe: sentencepiece}   # of fairseq-generate; models of Moses' tokens
                                                                 # need tokenizer, source-lang and target-lang too
    score: {tokenize: 13a}                                       # optional, of sacrebleu.BLEU
    contrasts: [[rSkip 2, xSkip 2]]                              # optional: further pairs of variants to compare
    measure: translation                                         # or classification, see measures.py

Flags are fairseq's, without ``--``: ``true`` is a flag without a value, ``false`` and ``null`` are none. Data and
variants may override ``train``: first the data's own ``train``, then the variant's. Paths are relative to where the
command runs.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common.errors import UserError
from ..runs.settings import Flags, check_flags, check_keys, check_mapping, read_settings
from .cell import Cell
from .contrasts import Pair
from .data import Data, file_name
from .measures import MEASURES

__all__ = ["Grid", "Tuning", "as_number", "read_grid"]

# file systems take 255; figures and files that are being written need some besides
LONGEST_NAME = 200

NOT_HERE = (
    "save-dir",
    "seed",
    "user-dir",
    "log-format",
    "path",
    "output",
    "gen-subset",
    "results-path",
    "reset-optimizer",
    # without a best checkpoint under its name, or the model's translations, there is nothing to compare
    "no-save",
    "checkpoint-suffix",
    "disable-validation",
    "quiet",
    "score-reference",
)


@dataclass(frozen=True)
class Tuning:
    """One flag whose value every variant chooses on the validation set.

    Args:
        flag: its name.
        values: that all variants try.
        also: further values of single variants, for instance of one that chose the highest.
        seed: of these trainings.
        train: flags of these trainings alone, for instance to make them shorter.
    """

    flag: str
    values: tuple[Any, ...]
    also: Mapping[str, tuple[Any, ...]]
    seed: int
    train: Flags

    def of(self, variant: str) -> tuple[Any, ...]:
        """All values that a variant tries."""
        return (*self.values, *self.also.get(variant, ()))


@dataclass(frozen=True)
class Grid:
    """All of the file; mappings keep its order."""

    title: str
    baseline: str
    seeds: tuple[int, ...]
    data: tuple[Data, ...]
    variants: Mapping[str, Flags]
    train: Flags
    evaluate: Flags
    score: Mapping[str, Any]
    measure: type[Cell]
    tune: Tuning | None
    contrasts: tuple[Pair, ...] = ()

    def flags(self, data: Data, variant: str) -> dict[str, Any]:
        """Of fairseq-train, without the seed and what is tuned."""
        return {**self.train, **data.train, **self.variants[variant]}


def read_grid(file: Path) -> Grid:
    """Read and check a grid.

    Raises:
        UserError: for a file that cannot be read, keys that are missing or unknown, and what makes no comparison.
    """
    content = read_settings(file)
    try:
        return _grid(content)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def _grid(content: Any) -> Grid:
    check_keys(
        "the grid",
        content,
        needed=("title", "baseline", "seeds", "data", "variants", "train", "evaluate"),
        optional=("contrasts", "measure", "score", "tune"),
    )
    variants = _flags_of_each("variants", content["variants"])
    baseline = str(content["baseline"])
    if baseline not in variants:
        raise UserError(f"baseline {baseline!r}: valid are {', '.join(map(repr, variants))}")
    name = str(content.get("measure", "translation"))
    if name not in MEASURES:
        raise UserError(f"measure {name!r}: valid are {', '.join(MEASURES)}")
    measure, data = MEASURES[name], content["data"]
    check_mapping("data", data)
    score = _flags("score", content.get("score", {}))
    measure.check_options(score)
    grid = Grid(
        title=str(content["title"]),
        baseline=baseline,
        seeds=_seeds(content["seeds"]),
        data=tuple(_data(str(name), entry, measure) for name, entry in data.items()),
        variants=variants,
        train=_flags("train", content["train"]),
        evaluate=_flags("evaluate", content["evaluate"]),
        score=score,
        measure=measure,
        tune=_tuning(content["tune"], variants) if content.get("tune") is not None else None,
        contrasts=_contrasts(content.get("contrasts", []), variants, baseline),
    )
    _check_tuned(grid)
    _check_file_names(grid)
    return grid


def _check_tuned(grid: Grid) -> None:
    """Refuse values of the tuned flag that none would be trained with."""
    for data in grid.data:
        for variant in grid.variants:
            if grid.tune is not None and grid.tune.flag in {**grid.flags(data, variant), **grid.tune.train}:
                raise UserError(f"{grid.tune.flag} is tuned: leave it out of train, data and variants")


def _check_file_names(grid: Grid) -> None:
    """Refuse what is no name of a folder, and two names for one."""
    for kind, all_of_kind in (("data", [data.name for data in grid.data]), ("variants", grid.variants)):
        names: dict[str, str] = {}
        for name in all_of_kind:
            in_file = file_name(name)
            if in_file in ("", ".", "..") or len(in_file.encode()) > LONGEST_NAME:
                raise UserError(
                    f"{kind}: {name!r} names files, too: valid are 1 to {LONGEST_NAME} bytes, and neither . nor .."
                )
            other = names.setdefault(in_file, name)
            if other != name:
                raise UserError(f"{kind}: {other!r} and {name!r} would get the same file name")


def _flags(name: str, value: Any) -> dict[str, Any]:
    return check_flags(name, value, NOT_HERE)


def _flags_of_each(name: str, value: Any) -> dict[str, dict[str, Any]]:
    check_mapping(name, value)
    return {str(key): _flags(f"{name}: {key}", flags) for key, flags in value.items()}


def _seeds(value: Any) -> tuple[int, ...]:
    if (
        not isinstance(value, list)
        or not value
        or not all(type(seed) is int and 0 < seed < 2**32 for seed in value)  # true is an int
    ):
        raise UserError(f"seeds {value}: valid is a list of whole numbers above 0, below 2³²")
    if len(set(value)) < len(value):
        raise UserError(f"seeds {value}: one is given twice")
    return tuple(value)


def _contrasts(value: Any, variants: Mapping[str, Any], baseline: str) -> tuple[Pair, ...]:
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise UserError(f"contrasts {value}: valid is a list of pairs of variants")
    pairs = [(str(variant), str(against)) for variant, against in value]
    for name in itertools.chain(*pairs):
        if name not in variants:
            raise UserError(f"contrasts: {name!r}: valid are {', '.join(map(repr, variants))}")
    if any(a == b for a, b in pairs) or len({frozenset(pair) for pair in pairs}) < len(pairs):
        raise UserError(f"contrasts {value}: valid are pairs of two variants, each pair once")
    against_all = [pair for pair in pairs if baseline in pair]
    if against_all:
        raise UserError(
            f"contrasts {list(against_all[0])}: {baseline!r} is the baseline, and compared with all anyway"
        )
    return tuple(pairs)


def _data(name: str, entry: Any, measure: type[Cell]) -> Data:
    check_keys(f"data: {name}", entry, needed=("path", *measure.files), optional=("train",))
    train = _flags(f"data: {name}: train", entry.get("train"))
    for key in ("path", *measure.files):
        if not isinstance(entry[key], str):
            raise UserError(f"data: {name}: {key} {entry[key]}: valid is a path")
    return Data(name, Path(entry["path"]), {key: Path(entry[key]) for key in measure.files}, train)


def as_number(value: Any) -> float | str:
    """A value as a number if it is one, else as a word. YAML takes 1e-3 for a word, and true for no number."""
    try:
        return float(str(value))
    except ValueError:
        return str(value)


def _values(name: str, flag: str, entry: Any, least: str, others: Sequence[Any] = ()) -> tuple[Any, ...]:
    """At least so many values of a flag to try, which differ from one another and from the others."""
    if isinstance(entry, list) and len(entry) >= {"one": 1, "two": 2}[least] and None not in entry:
        for value in entry:
            _flags(name, {flag: value})
        numbers = [as_number(value) for value in (*others, *entry)]
        # 1 and true are two values of a flag, and one key of a table
        if len(set(numbers)) == len(numbers) == len({*others, *entry}):
            return tuple(entry)
    further = f", and none of {list(others)}" if others else ""
    raise UserError(
        f"{name} {entry}: valid is a list of at least {least}, all different and none null{further}"
    )


def _tuning(entry: Any, variants: Mapping[str, Any]) -> Tuning:
    check_keys("tune", entry, needed=("flag", "values", "seed"), optional=("also", "train"))
    flag, also = entry["flag"], entry.get("also") or {}
    if not isinstance(flag, str):
        raise UserError(f"tune: flag {flag}: valid is a flag's name")
    values = _values("tune: values", flag, entry["values"], "two")
    if also:
        check_mapping("tune: also", also)
    for name in map(str, also):
        if name not in variants:
            raise UserError(f"tune: also: {name!r}: valid are {', '.join(map(repr, variants))}")
    further = {
        str(name): _values(f"tune: also: {name}", flag, more, "one", values) for name, more in also.items()
    }
    return Tuning(flag, values, further, *_seeds([entry["seed"]]), _flags("tune: train", entry.get("train")))
