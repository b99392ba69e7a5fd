"""The demo's five stages: corpus, sub-words, training, translation, report. Each is done once."""

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.runs import Stages, locked, read_lines, read_log

from . import own_files, report, subwords, training
from .corpus import AUTO, Corpus, obtain
from .pairs import Limits, divide
from .progress import bar

__all__ = ["check", "main"]


def check(args: argparse.Namespace) -> None:
    """Refuse what can be seen to be wrong before any work is done."""
    if (args.source is None) != (args.target is None):
        raise UserError("--source and --target go together: give two files, or none of both")
    if args.source and args.corpus != AUTO:
        raise UserError(f"--corpus {args.corpus} and --source contradict each other: give one of them")
    for name, least in (
        ("max_words", Limits.min_words),
        ("vocabulary", 100),
        ("updates", 10),
        ("threads", 1),
    ):
        if getattr(args, name) < least:
            flag = name.replace("_", "-")
            raise UserError(f"--{flag} {getattr(args, name)}: valid is a whole number of at least {least}")
    if not 0 <= args.seed < 2**31:
        raise UserError(f"--seed {args.seed}: valid is a whole number from 0 to {2**31 - 1}")
    if not args.target_lang.replace("-", "").isalnum() or args.target_lang == subwords.SOURCE_LANG:
        raise UserError(
            f"--target-lang {args.target_lang}: valid is a language's code other than en, such as de"
        )

    from fairseq.models import ARCH_MODEL_REGISTRY  # slow to import, so only after the cheap checks
    from fairseq.models.transformer import TransformerModelBase

    valid = [arch for arch, model in ARCH_MODEL_REGISTRY.items() if issubclass(model, TransformerModelBase)]
    if args.arch not in valid:
        ours = ", ".join(arch for arch in valid if "rskip" in arch)
        raise UserError(f"--arch {args.arch}: valid are {ours} and fairseq's own, such as transformer")


def main(args: argparse.Namespace) -> None:
    """Run all stages and print the report."""
    check(args)
    console = Console(highlight=False)
    started = time.monotonic()
    with locked(args.work_dir, "demo") as lock:
        stages = Stages(args.work_dir)
        corpus, about = _corpus(console, stages, args)
        data = _data(console, stages, args, corpus, about["content"])
        recipe = training.Recipe(args.arch, args.updates, args.seed, args.threads, tuple(args.flags))
        model = _model(console, stages, args, recipe, data, lock)
        translated = _translations(console, stages, args, data, corpus, model)
    _report(console, args, about, corpus, model, translated)
    console.print(f"\n{_minutes(time.monotonic() - started)} in all. Everything is in {args.work_dir}.")


def _corpus(console: Console, stages: Stages, args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    console.rule("1/5 corpus")
    limits = Limits(max_words=args.max_words)
    settings = vars(limits) | {"corpus": args.corpus, "target_lang": args.target_lang, "seed": args.seed}
    own = None
    if args.source:
        pairs = own_files.read_pairs(args.source, args.target)
        own = Corpus("own files", f"{args.source} and {args.target}", pairs)
        content = "\n".join(f"{pair.source}\t{pair.target}" for pair in pairs)
        settings["corpus"] = hashlib.sha256(content.encode()).hexdigest()

    def build(folder: Path) -> None:
        cache = args.work_dir / "cache"
        cache.mkdir(exist_ok=True)
        with bar(console, "fetching and reading the corpus", None):
            found = own or obtain(args.corpus, args.target_lang, cache)
            parts = divide(found.pairs, limits, args.seed)
        subwords.write_plain(parts, folder, args.target_lang)
        about = {
            "name": found.name,
            "description": found.description,
            "skipped": found.skipped,
            "sizes": {part: len(pairs) for part, pairs in parts.items()},
            # Settings do not tell all: what "auto" found depends on the network, packages get new versions.
            "content": hashlib.sha256(repr(parts).encode()).hexdigest(),
        }
        (folder / "about.json").write_text(json.dumps(about, indent=1), "utf-8")

    folder, reused = stages.run("corpus", settings, build)
    about = json.loads((folder / "about.json").read_text("utf-8"))
    console.print(_corpus_line(about, args.target_lang))
    for reason in about["skipped"]:
        console.print(f"not used: {reason}", markup=False)
    sizes = ", ".join(f"{size:,} {part}" for part, size in about["sizes"].items())
    _done(console, f"{sizes} pairs of up to {args.max_words} words", folder, reused)
    return folder, about


def _corpus_line(about: dict[str, Any], target_lang: str) -> str:
    return (
        f"[bold]corpus: {about['name']}[/] – {about['description']}, {subwords.SOURCE_LANG} → {target_lang}"
    )


def _data(console: Console, stages: Stages, args: argparse.Namespace, corpus: Path, content: str) -> Path:
    console.rule("2/5 sub-words and fairseq-preprocess")

    def build(folder: Path) -> None:
        with bar(console, "learning sub-words, binarising", None):
            subwords.prepare(corpus, folder, args.target_lang, args.vocabulary, _say(console))

    folder, reused = stages.run("data", {"vocabulary": args.vocabulary, "corpus": content}, build)
    count = len(read_lines(folder / "subwords.vocab"))
    _done(console, f"{count} sub-words", folder, reused)
    return folder / "binary"


def _model(
    console: Console, stages: Stages, args: argparse.Namespace, recipe: training.Recipe, data: Path, lock: int
) -> Path:
    console.rule(f"3/5 training {recipe.arch}")

    def build(folder: Path) -> None:
        if (folder / "checkpoint_last.pt").exists():
            console.print("an interrupted training goes on from its last checkpoint")
        with bar(console, "training", recipe.updates) as advance:

            def on_record(record: dict[str, float]) -> None:
                if "num_updates" in record:
                    note = (
                        f"update {record['num_updates']:.0f}/{recipe.updates}, epoch {record['epoch']:.0f}, "
                        f"loss {record['nll_loss']:.2f} bits, {record['wps']:.0f} sub-words/s"
                    )
                    advance(record["num_updates"], note)

            training.train(recipe, data, folder, args.target_lang, _say(console), on_record, (lock,))

    folder, reused = stages.run("model", recipe.settings(), build, resumable=True)
    _done(console, f"{recipe.updates} updates", folder, reused)
    return folder


def _translations(
    console: Console, stages: Stages, args: argparse.Namespace, data: Path, corpus: Path, model: Path
) -> Path:
    console.rule("4/5 translating the held-out sentences")
    count = len(read_lines(corpus / f"test.{args.target_lang}"))

    def build(folder: Path) -> None:
        with bar(console, "translating", count) as advance:
            translated = training.translate(
                data,
                model / "checkpoint_last.pt",
                "test",
                args.target_lang,
                folder / "generate.log",
                _say(console),
                lambda done: advance(done, f"{done} of {count} sentences"),
            )
        if len(translated) != count:
            raise UserError(f"fairseq-generate gave {len(translated)} translations of {count} sentences")
        (folder / "test.txt").write_text("".join(f"{line}\n" for line in translated), "utf-8")

    folder, reused = stages.run("translations", {"beam": training.BEAM}, build)
    _done(console, f"{count} sentences", folder, reused)
    return folder / "test.txt"


def _report(
    console: Console,
    args: argparse.Namespace,
    about: dict[str, Any],
    corpus: Path,
    model: Path,
    translated: Path,
) -> None:
    console.rule("5/5 report")
    sources, references, translations = (
        read_lines(file)
        for file in (
            corpus / f"test.{subwords.SOURCE_LANG}",
            corpus / f"test.{args.target_lang}",
            translated,
        )
    )
    records = read_log(model / "train.log")
    picture = model / "learning-curve.png"
    report.draw_curve(
        records, f"{args.arch}, {subwords.SOURCE_LANG} → {args.target_lang}, {about['name']}", picture
    )
    report.print_samples(console, sources, references, translations, args.seed)
    console.print(f"training loss {report.sparkline(records)}   learning curve: {picture}", soft_wrap=True)
    console.print(_corpus_line(about, args.target_lang))
    report.print_scores(console, sources, references, translations, args.target_lang)


def _say(console: Console):
    return lambda text: console.print(text, markup=False, soft_wrap=True)


def _done(console: Console, what: str, folder: Path, reused: bool) -> None:
    console.print(f"{what}: {folder}" + (" (from an earlier run)" if reused else ""))


def _minutes(seconds: float) -> str:
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
