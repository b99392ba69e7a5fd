"""Models as the commands build them: flags through fairseq's own training parser."""

import torch
from fairseq import options
from fairseq.data import Dictionary
from fairseq.models import ARCH_MODEL_REGISTRY
from torch import nn

import skipln_fairseq  # noqa: F401  (registers the architectures)
from skipln_fairseq.nn import SKIPS, ConnectionConfig

SMALL = (
    *("--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "32"),
    *("--encoder-layers", "2", "--encoder-attention-heads", "2"),
    *("--decoder-layers", "2", "--decoder-attention-heads", "2"),
)

# What trains a model with --adaptive-softmax-cutoff.
ADAPTIVE_LOSS = ("--criterion", "adaptive_loss", "--ddp-backend", "legacy_ddp")

# One row of flags for each kind of connection, and for mixed sides.
CONNECTIONS = {
    "plain": "--skip-type plain",
    "pre": "--skip-type plain --encoder-normalize-before --decoder-normalize-before",
    "no-norm": "--skip-type plain --skip-norm none",
    "xskip": "--skip-type expanded --skip-scale 0.5 --skip-norm none",
    "xskip-ln": "--skip-type expanded --skip-scale 2",
    "rskip-1": "--skip-order 1",
    "rskip-2": "--skip-order 2",
    "rskip-3-shared": "--skip-order 3 --share-skip-norms",
    "learned": "--skip-type learned --skip-scale-vector",
    "admin": "--skip-type admin",
    "b2t": "--skip-type b2t",
    "dual": "--skip-type dual",
    "hyper-dynamic": "--skip-type hyper-dynamic --skip-streams 3",
    "frac": "--skip-type frac --skip-fractions 2",
    "siamese": "--skip-type siamese",
    "mhc": "--skip-type mhc --skip-streams 2 --mhc-start factory --mhc-end sigmoid",
    "layerscale": "--skip-type layerscale --layerscale-init 0.5",
    "sub-ada": "--skip-type plain --norm-placement sub --skip-norm ada",
    "sandwich-rms": "--skip-type plain --norm-placement sandwich --skip-norm rms --encoder-ffn-skip-norm dyt",
    "mixed": "--encoder-skip-order 3 --decoder-skip-type expanded --decoder-skip-scale 1.5",
}


class Task:
    """What a model asks of a task while it is built: two dictionaries."""

    def __init__(self, words=40):
        self.source_dictionary = self.target_dictionary = Dictionary()
        for word in range(words):
            self.source_dictionary.add_symbol(f"w{word}")


def parse(arch, *flags):
    """The namespace that fairseq-train makes of these flags."""
    required = ("data", "--optimizer", "adam", "--arch", arch)
    return options.parse_args_and_arch(options.get_training_parser(), [*required, *SMALL, *flags])


def build(arch, *flags, seed=1):
    """The model that fairseq-train builds from these flags, its parameters drawn with ``seed``."""
    args = parse(arch, *flags)
    torch.manual_seed(seed)
    return ARCH_MODEL_REGISTRY[arch].build_model(args, Task())


def build_connection_model(name, *flags, seed=1):
    """``transformer_rskip`` with one of ``CONNECTIONS``, its norms away from the identity."""
    model = build("transformer_rskip", *CONNECTIONS[name].split(), *flags, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "layer_norm" in key:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def batch(seed=0, sentences=3, source_length=7, target_length=6):
    """Source tokens (left-padded), their lengths and shifted target tokens (right-padded)."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(4, 44, (sentences, source_length), generator=generator)
    target = torch.randint(4, 44, (sentences, target_length), generator=generator)
    source[:, -1] = 2
    target[:, 0] = 2
    source[0, :3] = 1
    target[-1, -2:] = 1
    return source, source.ne(1).sum(1), target


class Leave(nn.Module):
    """``leave`` as a forward, which functional_call and scripting want."""

    def __init__(self, connection):
        super().__init__()
        self.connection = connection

    def forward(self, f_x, x):
        return self.connection.leave(f_x, x)


def assert_padding_never_leaks(model, **tolerance):
    """A sentence gives the same alone as beside a longer one, on both sides."""
    source, lengths, target = batch()
    together = model(source, lengths, target)[0]
    for row in range(len(source)):
        alone_source = source[row, source[row].ne(1)][None]
        alone_target = target[row, target[row].ne(1)][None]
        alone = model(alone_source, torch.tensor([alone_source.size(1)]), alone_target)[0][0]
        torch.testing.assert_close(together[row, : alone.size(0)], alone, **tolerance)


def middle(option):
    """A value of an option: its first word, a switch that is on, or the middle of what is drawn."""
    if option.choices:
        return option.choices[0]
    return True if option.metavar is None else option.kind(sum(option.drawn) / 2)


def wiring(skip="plain", norm="layer", placement="post", form="authors", norm_options=(), **options):
    """A connection's choices: of the options those that the skip type declares, and what it needs besides."""
    declared = SKIPS[skip].declaration.options
    needed = {option.name: middle(option) for option in declared if option.default is None}
    given = {option.name: options[option.name] for option in declared if option.name in options}
    taken = tuple((needed | given).items())
    return ConnectionConfig(skip, norm, placement, taken, norm_options, form)


FIRST, MIDDLE, LAST = {"index": 0}, {"index": 1}, {"index": 2, "last": True}
