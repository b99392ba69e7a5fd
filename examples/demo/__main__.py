"""``python -m examples.demo``: fetch a corpus, train a small rSkip+LN Transformer, translate, score."""

import argparse
import os
import signal
import sys
from pathlib import Path

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.common.needs import need

from .corpus import AUTO, SOURCES
from .pairs import Limits

VOCABULARY = 4000
UPDATES = 3000  # about eight of the demo's ten minutes on two cores


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description="Train a small English-German Transformer with recursive skips on real text "
        "and score it. Run again, it continues where it was interrupted and reuses what is done.",
        epilog="Flags after -- go to fairseq-train as they are: -- --skip-order 3",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    data = parser.add_argument_group("corpus")
    data.add_argument("--corpus", default=AUTO, help=f"one of {', '.join((AUTO, *SOURCES))}")
    data.add_argument(
        "--target-lang", default="de", metavar="LANG", help="language to translate English into"
    )
    data.add_argument("--source", type=Path, metavar="FILE", help="own corpus: one sentence in a line")
    data.add_argument("--target", type=Path, metavar="FILE", help="own corpus: the lines' translations")
    data.add_argument("--max-words", type=int, default=Limits.max_words, help="leave out longer sentences")
    data.add_argument(
        "--vocabulary", type=int, default=VOCABULARY, help="number of sub-words, or all of a small corpus"
    )
    model = parser.add_argument_group("training")
    model.add_argument(
        "--arch", default="transformer_rskip", help="any Transformer of fairseq or skipln_fairseq"
    )
    model.add_argument("--updates", type=int, default=UPDATES, help="length of the training")
    model.add_argument("--seed", type=int, default=1, help="of held-out pages, training and printed samples")
    model.add_argument(
        "--threads", type=int, default=min(2, os.cpu_count() or 1), help="CPU cores for the training"
    )
    model.add_argument("flags", nargs="*", metavar="-- FLAGS", help="more flags for fairseq-train")
    parser.add_argument(
        "--work-dir", type=Path, default=Path("runs/demo"), help="where everything is written"
    )
    return parser.parse_args(arguments)


def run() -> None:
    """The command."""
    args = parse()
    need("demo", "matplotlib", "rich", "sacrebleu", "sentencepiece")
    from .stages import main  # which imports them

    main(args)


if __name__ == "__main__":
    # What ends the demo from outside ends its commands too, see runs.run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run()
    except UserError as error:
        sys.exit(f"demo: error: {error}")
    except KeyboardInterrupt:
        print("\ninterrupted: the same command again goes on from here", file=sys.stderr)
        sys.exit(130)
