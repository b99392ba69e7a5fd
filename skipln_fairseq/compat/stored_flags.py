"""The flags in a checkpoint are data: nothing in them makes a load run, import, fetch or start anything.

``checkpoints`` passes what it reads through :func:`check_flags`, before fairseq sees it.
"""

import re
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from fairseq import criterions, models, tasks
from fairseq.data import encoders
from fairseq.dataclass.configs import GenerationConfig
from fairseq.registry import REGISTRIES

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.patch import around

__all__ = ["apply", "check_flags"]

MOST_FLAGS = 100_000
DEEPEST = 20

# What they ask for was done when the model was trained: code imported, programs started, weights read from other files
# that the checkpoint now holds itself.
OF_TRAINING = {
    "user_dir": None,
    "encoder_embed_path": None,
    "decoder_embed_path": None,
    "load_pretrained_encoder_from": None,
    "load_pretrained_decoder_from": None,
    "load_pretrained_aux_decoder_from": None,
    "pretrained_mlm_checkpoint": None,
    "post_save_script": None,
    "quantization_config_path": None,
    "use_plasma_view": False,
}
FILES_OF_WORD_PIECES = (
    "bpe_codes",
    "bpe_merges",
    "bpe_vocab",
    "bpe_vocab_file",
    "gpt2_encoder_json",
    "gpt2_vocab_bpe",
    "sentencepiece_model",
    "sentencepiece_model_path",
)
HYDRAS = re.compile(r"_(target|partial|recursive|convert|args)_")


def apply() -> None:
    """Look names up before fairseq does, so that an unknown one is told in one line.

    fairseq's commands, its tasks and its hub look all of these functions up in their modules.
    """
    for owner, name, known in (
        (tasks, "setup_task", (tasks.TASK_REGISTRY,)),
        (models, "build_model", (models.ARCH_MODEL_REGISTRY, models.MODEL_REGISTRY)),
        (criterions, "build_criterion", (criterions.CRITERION_REGISTRY,)),
        (encoders, "build_bpe", (encoders.BPE_REGISTRY,)),
        (encoders, "build_tokenizer", (encoders.TOKENIZER_REGISTRY,)),
    ):
        kind = name.partition("_")[2]

        @around(owner, name)
        def build(stock, cfg: Any, *args: Any, kind: str = kind, known: tuple = known, **kwargs: Any) -> Any:
            _refuse_unknown(kind, _name(cfg, kind), known)
            return stock(cfg, *args, **kwargs)


def _name(cfg: Any, kind: str) -> Any:
    """What the flags of a thing say that it is, as fairseq looks for it."""
    if isinstance(cfg, str | None):
        return cfg
    return getattr(cfg, "_name", None) or getattr(cfg, "arch" if kind == "model" else kind, None)


def _refuse_unknown(kind: str, name: Any, known: tuple[dict, ...]) -> None:
    if name is not None and not (isinstance(name, str) and any(name in registry for registry in known)):
        raise UserError(f"{kind} {name!r:.80}: fairseq knows none of this name; is a --user-dir missing?")


def check_flags(state: dict[str, Any]) -> None:
    """Look through ``cfg``, and ``args`` of older versions, as they were read; empty the flags of training.

    Raises:
        UserError: naming a flag that is an interpolation, an address or a key of hydra's, that never ends, or whose
            value fairseq would take for the name of a file.
    """
    args, cfg = state.get("args"), state.get("cfg")
    if not isinstance(args, Namespace | None):
        raise UserError(f"args is a {type(args).__name__}, and no flags")
    if not isinstance(cfg, dict | None):
        raise UserError(f"cfg is a {type(cfg).__name__}, and no flags by groups")
    for group in ("model", "task", "generation"):
        if not isinstance((cfg or {}).get(group), dict | Namespace | None):
            raise UserError(f"{group} is a {type(cfg[group]).__name__}, and no flags")
    if cfg and cfg.get("generation") is None:  # only fairseq's hub needs it, as defaults
        cfg["generation"] = asdict(GenerationConfig())
    if args is not None:  # hydra would look for an unknown name among its files
        for kind, registry in REGISTRIES.items():
            _refuse_unknown(kind, getattr(args, kind, None), (registry["registry"],))
        _refuse_unknown("task", getattr(args, "task", None), (tasks.TASK_REGISTRY,))
        _refuse_unknown("arch", getattr(args, "arch", None), (models.ARCH_MODEL_REGISTRY,))
    for flags, name, value in _walk({"args": args, "cfg": cfg}):
        if name in OF_TRAINING:
            flags[name] = OF_TRAINING[name]
        elif isinstance(value, str):
            _check_text(name, value)
        if isinstance(name, str) and HYDRAS.fullmatch(name):
            raise UserError(f"{name} {value!r:.80} in the flags: a flag names no code")


def _walk(root: dict[Any, Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Each flag with the dictionary that it stands in, and each text in a list with the list's flag."""
    stack, seen = [(root, name, value, 0) for name, value in root.items()], 0
    while stack:
        flags, name, value, depth = stack.pop()
        seen += 1
        if depth > DEEPEST or seen > MOST_FLAGS:
            raise UserError(f"{name!r:.80}: flags in flags without end")
        yield flags, name, value
        if isinstance(value, Namespace):
            value = vars(value)
        if isinstance(value, dict):
            stack += [(value, inner, one, depth + 1) for inner, one in value.items()]
        elif isinstance(value, list | tuple | set | frozenset):
            stack += [({}, name, one, depth + 1) for one in value]


def _check_text(name: Any, value: str) -> None:
    if "${" in value:
        raise UserError(f"{name} {value!r:.80}: a stored flag refers to no other one and to no environment")
    # a name that is no file would be fetched
    remote = "://" in value or (name == "bpe_vocab_file" and not Path(value).is_file())
    if name in FILES_OF_WORD_PIECES and remote and value not in ("", "???", *_fairseqs_own(name)):
        raise UserError(f"{name} {value!r:.80}: a checkpoint names no address; hand a file in")


def _fairseqs_own(name: str) -> list[Any]:
    """The values that a flag of word pieces has in fairseq, where nothing is said."""
    return [
        field.default
        for one in REGISTRIES["bpe"]["dataclass_registry"].values()
        for field in fields(one)
        if field.name == name
    ]
