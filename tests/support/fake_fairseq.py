"""What the comparison needs of fairseq-train and fairseq-generate, at once: logs, checkpoints, translations.

The model "learns" from flags: ``--lr`` without its sign is the loss, ``--behave`` what happens on the way.
"""

import argparse
import json
import sys
import time
import zipfile
from pathlib import Path


def train(args: argparse.Namespace) -> None:
    """Three validations; ``fail``, ``diverge`` and ``wait`` (for a file beside the data) come after the first.

    ``flat`` learns nothing in the third, and what ``dull`` translates is short; of ``uneven`` so is what
    all seeds but the first translate, though less.
    """
    print("2026-01-01 | INFO | fairseq_cli.train | num. shared model params: 1,234 (num. trained: 1,234)")
    last = args.save_dir / "checkpoint_last.pt"
    words = {"dull": 5, "uneven": 10 if args.seed > 1 else None}.get(args.behave)
    model = {"seed": args.seed, "good": args.good, "words": words}
    start = int(zipfile.ZipFile(last).read("updates")) if last.exists() else 0
    for updates in range(start + 1, 4):
        learnt = min(updates, 2) if args.behave == "flat" else updates
        loss = {"valid_loss": str(abs(args.lr) + 1 / learnt), "valid_num_updates": str(updates)}
        speed = {"loss": "1", "wps": str(100 * updates), "num_updates": str(updates)}
        epoch = {"train_loss": str(abs(args.lr) + 0.5 / learnt), "train_num_updates": str(updates)}
        if args.behave == "gpu":
            print(
                "2026-01-01 | INFO | fairseq.utils | rank 0: capabilities = 9.0; total memory = 80.000 GB; name = X"
            )
            speed["gb_free"] = str(80 - updates / 2)
        print(f"2026-01-01 | INFO | train_inner | {json.dumps(speed)}")
        if args.behave in ("diverge", f"diverge-of-seed-{args.seed}"):
            print("FloatingPointError: gradients are Nan/Inf")
            print("Traceback\n" * 20 + "StopIteration")
            sys.exit(1)
        if args.behave == "nan":
            loss["valid_loss"] = "nan"
        print(f"2026-01-01 | INFO | valid | {json.dumps(loss)}", flush=True)
        print(f"2026-01-01 | INFO | train | {json.dumps(epoch)}")
        for name in ("last", "best"):
            with zipfile.ZipFile(args.save_dir / f"checkpoint_{name}.pt", "w") as file:
                file.writestr("updates", str(updates))
                file.writestr("model", json.dumps(model))
        if args.behave == "fail":
            print("RuntimeError: out of memory")
            sys.exit(1)
        while args.behave == "wait" and not args.data.with_name("go").exists():
            time.sleep(0.05)


def generate(args: argparse.Namespace) -> None:
    """The references; a model that is not ``good`` loses words, another seed others."""
    model = json.loads(zipfile.ZipFile(args.path).read("model"))
    references = (args.data / "test.de").read_text().splitlines()
    for number, line in reversed(list(enumerate(references))):
        words = line.split()[: model["words"]]
        if (number + model["seed"]) % 3 and not model["good"]:
            words = words[:-2]
        elif number % 10 == model["seed"]:
            words = words[:-1]
        print(f"D-{number}\t-0.5\t{' '.join(words)}")


def main() -> None:
    """``fake_fairseq.py fairseq-train …``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("data", type=Path)
    parser.add_argument("--save-dir", type=Path)
    parser.add_argument("--path", type=Path)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--lr", type=float, default=1)
    parser.add_argument("--behave", default="")
    parser.add_argument("--good", action="store_true")
    args, _ = parser.parse_known_args()
    {"fairseq-train": train, "fairseq-generate": generate}[args.command](args)


if __name__ == "__main__":
    main()
