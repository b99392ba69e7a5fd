"""Export a model with the plain skip to CTranslate2, which decodes without fairseq or torch.

    python -m skipln_fairseq.to_ctranslate2 --path CHECKPOINT --data DIR --output-dir DIR [--quantization int8]

What CTranslate2 cannot express is refused: other skips and norms, placements other than post and pre or different ones
on the two sides, FAVOR+ attention. Needs ``pip install 'skipln_fairseq[ctranslate2]'``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairseq import checkpoint_utils
from torch import nn

from ..common.errors import UserError
from ..common.files import whole
from ..common.needs import need
from ..compat.checkpoints import explain_refusal
from .specification import check, specification

__all__ = ["main"]

QUANTIZATIONS = ("int8", "int8_float32", "int16", "float16", "bfloat16", "float32")


def _load(path: Path, data: Path) -> tuple[nn.Module, Any, Any]:
    if not path.is_file():
        raise UserError(f"--path {path} does not exist")
    if not data.is_dir():
        raise UserError(f"--data {data} is no folder")
    with explain_refusal(str(path)):
        models, cfg, task = checkpoint_utils.load_model_ensemble_and_task(
            [str(path)], arg_overrides={"data": str(data)}
        )
    return models[0], cfg.model, task


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m skipln_fairseq.to_ctranslate2",
        description="Export a model with the plain skip to CTranslate2.",
    )
    parser.add_argument("--path", type=Path, required=True, help="the checkpoint")
    parser.add_argument("--data", type=Path, required=True, help="binarised data, for its dictionaries")
    parser.add_argument(
        "--output-dir", type=Path, required=True, help="the folder to write, which must not exist"
    )
    parser.add_argument(
        "--quantization", metavar="TYPE", help=f"{', '.join(QUANTIZATIONS)} (default: as trained)"
    )
    args = parser.parse_args(argv)
    need("ctranslate2", "ctranslate2")
    if args.quantization not in (None, *QUANTIZATIONS):
        raise UserError(f"--quantization {args.quantization}: valid are {', '.join(QUANTIZATIONS)}")
    if args.output_dir.exists():
        raise UserError(f"--output-dir {args.output_dir} exists")
    if not args.output_dir.parent.is_dir():
        raise UserError(f"--output-dir {args.output_dir}: no such folder")
    model, flags, task = _load(args.path, args.data)
    check(model, flags)
    found = specification(model, flags, task.source_dictionary, task.target_dictionary)
    found.validate()
    found.optimize(quantization=args.quantization)
    with whole(args.output_dir) as folder:
        folder.mkdir()
        found.save(str(folder))
    print(
        f"{args.output_dir}: source and target are the pieces that fairseq reads, one sentence a list of them"
    )


if __name__ == "__main__":
    main()
