"""What the interpreter does while checkpoints with changed flags are loaded: an audit hook is the witness.

    python -m tests.support.witness CHECKPOINT DATA FOLDER EXAMPLES [evaluating]

A hook stays until a process ends, so this is a program of its own. With ``evaluating`` fairseq evaluates flags again,
which the witness has to see.
"""

import contextlib
import logging
import sys
import warnings
from argparse import Namespace
from pathlib import Path

import torch
from fairseq.models.transformer import TransformerModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import skipln_fairseq
from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat import evaluated

PROGRAMS = (
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "subprocess.",
    "socket.",
    "pty.",
    "urllib.",
)
LIBRARIES = tuple(
    str(Path(place).resolve())
    for place in (*sys.path, sys.prefix, sys.base_prefix, *skipln_fairseq.__path__)
    if place
)


class Witness:
    """Notes what a load does that it must not, while it looks."""

    def __init__(self, allowed):
        self.allowed, self.looks, self.seen = allowed, False, []
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if not self.looks:
            return
        self.looks = False  # what the witness does itself is no event
        try:
            if event.startswith(PROGRAMS) or self.forbidden(event, arguments):
                self.seen.append(f"{event} {arguments!r:.300}")
        finally:
            self.looks = True

    def forbidden(self, event, arguments):
        match event, arguments:
            case "open", (str() | bytes() as file, mode, _):
                path = str(Path(file.decode() if isinstance(file, bytes) else file).resolve())
                writes = isinstance(mode, str) and set(mode) & set("wax+")
                return writes or not (path in self.allowed or path.startswith(LIBRARIES))
            case "exec", (code,):
                return (
                    not str(Path(code.co_filename).resolve()).startswith(LIBRARIES)
                    or code.co_filename == "<string>"
                )
            case "compile", (_, filename):
                return filename not in (None, "<unknown>")  # ast.parse, which runs nothing
            case "import", (name, *_):
                return name.partition(".")[0] not in KNOWN
        return False


# by fairseq's own code, where they are there
OPTIONAL = (
    *("apex", "fairscale", "fastBPE", "fused_adam_cuda", "megatron", "nltk", "sacremoses", "sentencepiece"),
    *("subword_nmt", "tokenizers", "transformers", "xformers"),
)
KNOWN = {name.partition(".")[0] for name in (*sys.modules, *sys.stdlib_module_names, *OPTIONAL)}


def leaves(flags, path=()):
    """The places of all flags, and of what is in lists."""
    inner = vars(flags) if isinstance(flags, Namespace) else flags
    if isinstance(inner, dict):
        for name, value in inner.items():
            yield from leaves(value, (*path, name))
    else:
        yield path
        if isinstance(inner, list):
            yield from ((*path, index) for index in range(len(inner)))


def put(flags, path, value):
    for name in path[:-1]:
        flags = flags[name] if isinstance(flags, dict | list) else vars(flags)[name]
    (flags if isinstance(flags, dict | list) else vars(flags))[path[-1]] = value


def values(folder):
    """Values to put in the place of a flag's."""
    code = f"__import__('pathlib').Path({str(folder / 'pwned')!r}).touch() or [10, 20]"
    (folder / "module.py").write_text("raise SystemExit('imported')\n")
    (folder / "canary").write_text("3 2\na 1 2\n")
    hostile = (
        code,
        f"[{code}]",
        *(
            "${oc.env:HOME}",
            "${oc.decode:1}",
            "http://localhost:1/x",
            "../../canary",
            "module:run",
            "os.system",
            "???",
        ),
        *(str(folder / name) for name in ("canary", "module.py", "module", "", "missing")),
        *(
            "fconv",
            "lstm",
            "transformer",
            "gpt2",
            "moses",
            "adam",
            "9" * 99,
            "a\nb",
            "'",
            "$(touch pwned)",
            "{}",
            "[1]",
        ),
    )
    texts = st.sampled_from(hostile) | st.text(max_size=20)
    numbers = st.sampled_from(
        (-3, -1, 0, 3, 2.5, 10**6, 10**12, float("nan"), float("inf"), True)
    ) | st.integers(-9, 99)
    single = texts | numbers | st.none()
    return texts | single | st.lists(single, max_size=3) | st.dictionaries(texts, single, max_size=2)


def main(checkpoint, data, folder, examples, how=""):
    warnings.simplefilter("ignore")
    logging.disable()
    folder = Path(folder)
    state = torch.load(checkpoint, weights_only=True)
    del state["last_optimizer_state"]
    file = folder / "changed.pt"
    allowed = {str(Path(one).resolve()) for one in (file, *Path(data).glob("dict.*.txt"))}
    witness = Witness(allowed)
    if how == "evaluating":
        for name in evaluated.MODULES:
            if (
                module := sys.modules.get(f"fairseq.{name}")
            ) is not None:  # not every build of fairseq has all
                del module.eval

    def fresh():
        return torch.load(checkpoint, weights_only=True)["cfg"]

    def load(cfg, old):
        args = Namespace(**{key: value for key, value in vars(cfg["model"]).items() if key != "_name"})
        torch.save({**state, **({"args": args, "cfg": None} if old else {"cfg": cfg})}, file)
        witness.looks = True
        with contextlib.suppress(UserError):
            TransformerModel.from_pretrained(str(folder), file.name, str(data))
        witness.looks = False

    def check():
        assert not witness.seen, witness.seen
        assert not (folder / "pwned").exists()

    for old in (False, True):  # what is imported once
        load(fresh(), old)
    witness.seen.clear()

    places = list(leaves(fresh()))
    likely = [place for place in places if place[0] in ("model", "task", "bpe", "tokenizer")]

    @settings(
        max_examples=int(examples), deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(
        st.dictionaries(
            st.sampled_from(likely) | st.sampled_from(places), values(folder), min_size=1, max_size=3
        ),
        st.booleans(),
    )
    def no_load_does_more_than_read(changes, old):
        cfg = fresh()
        for place, value in changes.items():
            with contextlib.suppress(LookupError, TypeError):  # a change before took the place away
                put(cfg, place, value)
        if isinstance(cfg["model"], Namespace):
            load(cfg, old)
        check()

    def known_holes():
        for place, value in (
            ("adaptive_softmax_cutoff", f"__import__('pathlib').Path({str(folder / 'pwned')!r}).touch()"),
            ("encoder_embed_path", str(folder / "canary")),
            ("user_dir", str(folder / "module")),
        ):
            cfg = fresh()
            setattr(cfg["model"], place, value)
            load(cfg, False)
            check()

    known_holes()
    no_load_does_more_than_read()
    print("nothing but reading")


if __name__ == "__main__":
    main(*sys.argv[1:])
