"""A trained variant's translations of the test set, scored as is done today and as the old papers did."""

import importlib.util
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sacrebleu.metrics import BLEU, CHRF
from tqdm import tqdm

from ..common.errors import UserError
from ..common.files import write_json, write_text
from ..runs import Translations, read_lines
from ..runs.settings import words
from .began import check_data
from .commands import USER_DIR, run
from .recipe import Recipe
from .subwords import REMOVE
from .text import Text
from .train import folder

__all__ = ["evaluate", "metrics", "tokenised_bleu"]

COMET_MODEL = "Unbabel/wmt22-comet-da"


def evaluate(
    recipe: Recipe,
    variant: str,
    seed: int,
    work_dir: Path,
    cpu: bool,
    comet: bool,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Translate with the averaged or the best checkpoint, and score; the scores are kept in ``scores.json``.

    * ``bleu``, ``chrf``: sacreBLEU of plain text, with signatures, case as the recipe has it,
    * ``comet``: where asked for and installed,
    * ``tokenised_bleu``: of Moses' tokens, or of the corpus's own where it has no other form, and with split compounds
      where the literature splits them; comparable with old papers alone.

    Raises:
        UserError: nothing is trained, or on other data, COMET is not there, or a command failed.
    """
    recipe.check_variant(variant)
    where = folder(work_dir, variant, seed)
    best = where / "checkpoint_best.pt"
    if not best.is_file():
        raise UserError(f"{best} is missing: run train first")
    check_data(where, work_dir)
    if comet and importlib.util.find_spec("comet") is None:
        raise UserError("--comet: COMET is not installed: pip install unbabel-comet")
    references = read_lines(work_dir / f"test.{recipe.target_lang}")
    count = _epochs_to_average(recipe, where, say)
    checkpoint = _averaged(count, where, say) if count else best
    with tqdm(total=len(references), unit=" sentences", desc="translating") as bar:
        tokens = _translate(recipe, work_dir, where, checkpoint, cpu, say, lambda _: bar.update())
    target = recipe.text_of(recipe.target_lang)
    plain = [target.plain(line) for line in tokens]
    if len(references) != len(plain):
        raise UserError(f"{len(plain)} translations of {len(references)} sentences: prepare and train again")
    write_text(where / "test.hypotheses", "".join(f"{line}\n" for line in plain))
    split = bool(recipe.score.get("compound-split"))
    bleu, chrf = metrics(recipe)
    scores = {
        "checkpoint": checkpoint.name,
        "bleu": bleu.corpus_score(plain, [references]).score,
        "bleu_signature": str(bleu.get_signature()),
        "chrf": chrf.corpus_score(plain, [references]).score,
        "chrf_signature": str(chrf.get_signature()),
        "tokenised_bleu": tokenised_bleu(*_words(recipe, work_dir, tokens, plain, references), split),
        "compound_split": split,
    }
    if comet:
        sources = read_lines(work_dir / f"test.{recipe.source_lang}")
        scores["comet"], scores["comet_model"] = _comet(sources, plain, references, cpu), COMET_MODEL
    write_json(where / "scores.json", scores)
    return scores


def metrics(recipe: Recipe) -> tuple[BLEU, CHRF]:
    """sacreBLEU's, without case where the recipe's text has none."""
    case = {"lowercase": True} if recipe.text.get("lowercase") else {}
    return BLEU(**{**case, **recipe.score.get("bleu", {})}), CHRF(**case)


def _words(
    recipe: Recipe, work_dir: Path, tokens: Sequence[str], plain: Sequence[str], references: Sequence[str]
) -> tuple[Sequence[str], Sequence[str]]:
    """Translations and references in the words that the BLEU of old papers counts."""
    if recipe.text.get("moses"):
        return tokens, read_lines(work_dir / f"test.tokens.{recipe.target_lang}")
    if recipe.score.get("tokenised"):
        return plain, references
    moses = Text(recipe.target_lang, moses=True)
    return [moses.tokens(line) for line in plain], [moses.tokens(line) for line in references]


def tokenised_bleu(hypotheses: Sequence[str], references: Sequence[str], split_compounds: bool) -> float:
    """BLEU of lines that are tokenised already, as Moses' multi-bleu computes it.

    ``split_compounds``: a hyphen between words is a word of its own, as in the figures of Vaswani et al. (2017); one
    that the tokens have apart already ("@-@") stays.
    """

    def prepared(lines: Sequence[str]) -> list[str]:
        return (
            [re.sub(r"(?<=[^\s@])-(?=[^\s@])", " ##AT##-##AT## ", line) for line in lines]
            if split_compounds
            else [*lines]
        )

    metric = BLEU(tokenize="none", smooth_method="none", force=True)
    return metric.corpus_score(prepared(hypotheses), [prepared(references)]).score


def _epochs_to_average(recipe: Recipe, where: Path, say: Callable[[str], None]) -> int:
    """As many as the recipe asks for, or all that a short training has left."""
    there = sum(bool(re.fullmatch(r"checkpoint\d+\.pt", file.name)) for file in where.iterdir())
    if there < recipe.average:
        taken = "these are taken" if there else "the best one is taken"
        say(f"the recipe averages {recipe.average} epochs' checkpoints, and there are {there}: {taken}")
    return min(there, recipe.average)


def _averaged(count: int, where: Path, say: Callable[[str], None]) -> Path:
    averaged = where / "checkpoint_averaged.pt"
    run(
        [
            *("python", "-m", "skipln_fairseq.average", "--inputs", str(where)),
            *("--num-epoch-checkpoints", str(count), "--output", str(averaged)),
        ],
        where / "average.log",
        say,
    )
    return averaged


def _translate(
    recipe: Recipe,
    work_dir: Path,
    where: Path,
    checkpoint: Path,
    cpu: bool,
    say: Callable[[str], None],
    on_progress: Callable[[int], object],
) -> list[str]:
    translations = Translations(on_progress)
    flags = {**recipe.generate, **({"cpu": True} if cpu else {})}
    run(
        [
            *("fairseq-generate", str(work_dir / "binary"), "--user-dir", USER_DIR),
            *("--source-lang", recipe.source_lang, "--target-lang", recipe.target_lang),
            *("--path", str(checkpoint), "--gen-subset", "test"),
            *("--remove-bpe", REMOVE[recipe.subwords["kind"]]),
            *words(flags),
        ],
        where / "generate.log",
        say,
        translations.on_line,
    )
    return translations.lines()


def _comet(sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str], cpu: bool) -> float:
    from comet import download_model, load_from_checkpoint

    model = load_from_checkpoint(download_model(COMET_MODEL))
    rows = zip(sources, hypotheses, references, strict=True)
    data = [{"src": source, "mt": text, "ref": reference} for source, text, reference in rows]
    return float(model.predict(data, gpus=0 if cpu else 1).system_score)
