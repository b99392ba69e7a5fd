"""Random combinations of all axes, through the real parser: each one trains, decodes, scripts and is stored."""

import random
from collections import Counter, defaultdict
from typing import NamedTuple

import pytest
import torch
from torch.nn import functional as F

from skipln_fairseq.models.choices import SLOTS
from skipln_fairseq.models.family import REGISTRIES
from skipln_fairseq.models.flags import connections
from skipln_fairseq.nn import (
    EMBEDDINGS,
    MIXINGS,
    NORMS,
    PLACEMENTS,
    QK_NORMS,
    SKIPS,
    SOLVERS,
    SOURCES,
    STARTS,
    VALUES,
    ConnectionConfig,
)
from skipln_fairseq.nn.embedding import WordVectors
from skipln_fairseq.nn.placement.post import Post
from skipln_fairseq.nn.skip import Site
from skipln_fairseq.nn.start.base import Start
from skipln_fairseq.nn.valid import (
    valid_mixings,
    valid_norms,
    valid_placements,
    valid_qk_norms,
    valid_solvers,
    valid_sources,
    valid_values,
)
from tests.support.build import batch, build, parse

NOISE = 1e-6  # fairseq's attention takes its softmax in single precision, also in a float64 model


SALT = 2  # the first number with which 30 combinations reach the whole family


class Choice(NamedTuple):
    """What one side has on each axis; the norm is that of its self-attention."""

    skip: str
    norm: str
    placement: str
    mixing: str
    solver: str
    start: str


def valid_starts(skip, norm, placement):
    """The initialisations that go with a connection, as they are refused."""
    own = ConnectionConfig(skip, norm, placement).has_start()
    return [
        start
        for start in STARTS
        if start == "fairseq" or not (own or (STARTS[start].needs_no_norm and norm != "none"))
    ]


FAMILY = [
    Choice(skip, norm, placement, mixing, solver, start)
    for skip in SKIPS
    for norm in valid_norms(skip)
    for placement in valid_placements(skip, norm)
    for mixing in valid_mixings(skip, norm, placement)
    for solver in valid_solvers(skip, norm, placement, mixing)
    for start in valid_starts(skip, norm, placement)
]


COUNTS = {axis: Counter(getattr(one, axis) for one in FAMILY) for axis in Choice._fields}


def pick(rng, **wanted):
    """One of the family that has what is wanted, so far as it goes together.

    The first is had always. Of the others what goes with few comes first, so that it has its turn.
    """
    first, *others = wanted.items()
    others.sort(key=lambda item: COUNTS[item[0]][item[1]])
    found = FAMILY
    for axis, choice in (first, *others):
        found = [one for one in found if getattr(one, axis) == choice] or found
    return rng.choice(found)


def turn(side, axis, seed, valid=None):
    """The seed's choice: all of an axis have their turn in each round, in an order that is drawn anew.

    Where it is not valid, the next one in that order that is.
    """
    choices = list(axis)
    random.Random(f"{SALT} {side} {axis.axis} {seed // len(choices)}").shuffle(choices)
    following = [choices[(seed + n) % len(choices)] for n in range(len(choices))]
    return next(choice for choice in following if valid is None or choice in valid)


def drawn(rng, option):
    """A value of an option, as text; None of a switch, which is on."""
    low, high = option.drawn
    if option.choices:
        return rng.choice(option.choices)
    if option.metavar is None:
        return None
    return str(rng.randint(int(low), int(high))) if option.kind is int else f"{rng.uniform(low, high):.4f}"


def connection_flags(rng, side, choice):
    """Skip rule, placement and norms, and the numbers that they need or may have.

    The norm of the self-attention is that of the whole side, since some placements have none there.
    """
    norms = [one.norm for one in FAMILY if one._replace(norm=choice.norm) == choice]
    chosen = {slot: rng.choice(norms) for slot in SLOTS[side]} | {"self_attn": choice.norm}
    flags = {"skip-type": choice.skip, "norm-placement": choice.placement}
    flags |= {"skip-norm": choice.norm}
    flags |= {f"{slot.replace('_', '-')}-skip-norm": chosen[slot] for slot in SLOTS[side][1:]}
    place = PLACEMENTS[choice.placement]
    numbers = [
        option
        for option in place.declaration.options
        if not any(place.refuses(NORMS[norm], **{option.name: option.read(1)}) for norm in chosen.values())
    ]
    for variant in (SKIPS[choice.skip], *(NORMS[norm] for norm in chosen.values())):
        numbers += variant.declaration.options
    return flags | option_flags(rng, numbers)


def option_flags(rng, options):
    """Those that have to be given, and each other one in every second case."""
    by_flag = {option.flag: option for option in options}
    return {
        flag.replace("_", "-"): drawn(rng, option)
        for flag, option in sorted(by_flag.items())
        if option.default is None or rng.random() < 0.5
    }


def part_flags(rng, side, choice, qk_norm):
    """Another connection for one of a side's two layers, with the same first weights and norms of queries.

    Where the stream is wider than x the skip rule is the same, with the same numbers.
    """
    wide = SKIPS[choice.skip].is_wide
    normed = PLACEMENTS[choice.placement].ends_with_norm
    same = [
        one
        for one in FAMILY
        if one[3:] == choice[3:]
        and (PLACEMENTS[one.placement].ends_with_norm == normed or not MIXINGS[choice.mixing].needs_one_kind)
        and (one.skip == choice.skip if wide else not SKIPS[one.skip].is_wide)
        and qk_norm in valid_qk_norms(one.placement)
    ]
    names = connection_flags(rng, side, rng.choice(same))
    for option in SKIPS[choice.skip].declaration.options if wide else ():
        names.pop(option.flag.replace("_", "-"), None)
    words = [name if value is None else f"{name}={value}" for name, value in names.items()]
    place = PLACEMENTS[names["norm-placement"]]
    off = {option.flag.replace("_", "-") for option in place.declaration.options if option.metavar is None}
    words += [f"no-{name}" for name in off - names.keys()]  # the other layers may have it on
    return {"by-layer": f"{rng.choice(['0', '1-'])}:{','.join(words)}"}


def side_flags(rng, side, choice, seed):
    """All flags of one side."""
    qk_norm = turn(side, QK_NORMS, seed, valid_qk_norms(choice.placement))
    flags = connection_flags(rng, side, choice)
    flags |= {"depth-mixing": choice.mixing, "initialisation": choice.start, "qk-norm": qk_norm}
    flags |= {"value-residual": turn(side, VALUES, seed, valid_values(choice.solver))}
    flags |= {"solver": choice.solver} if side == "encoder" else {}
    others = MIXINGS[choice.mixing], SOLVERS[choice.solver], STARTS[choice.start], QK_NORMS[qk_norm]
    flags |= option_flags(rng, [option for other in others for option in other.declaration.options])
    flags |= part_flags(rng, side, choice, qk_norm) if rng.random() < 0.3 else {}
    flags |= {"drop-path": f"{rng.uniform(0, 0.3):.3f}"} if rng.random() < 0.3 else {}
    return [word for name, value in flags.items() for word in (f"--{side}-{name}", value) if word is not None]


def valid_embeddings(starts):
    """The word vectors whose first values no initialisation draws too."""
    drawn = any(STARTS[start].embedding is not Start.embedding for start in starts)
    return [name for name in EMBEDDINGS if not drawn or EMBEDDINGS[name].first is WordVectors.first]


def combination(seed):
    """Each choice of each axis has its turn however many there are; all else is drawn.

    The encoder always has the skip type whose turn it is, the decoder the norm, and the rest so far as it goes with it.
    """
    rng, flags, chosen = random.Random(seed), [], {}
    for side, first in (("encoder", SKIPS), ("decoder", NORMS)):
        axes = (first, PLACEMENTS, MIXINGS, STARTS, *([SOLVERS] if side == "encoder" else []))
        choice = pick(rng, **{axis.axis: turn(side, axis, seed) for axis in axes})
        chosen[side] = choice if side == "encoder" else choice._replace(solver="none")
        flags += side_flags(rng, side, chosen[side], seed)
    encoder = chosen["encoder"]
    flags += [
        "--cross-attention-source",
        turn("", SOURCES, seed, valid_sources(encoder.skip, encoder.mixing)),
    ]
    flags += [
        "--embedding-norm",
        turn("", EMBEDDINGS, seed, valid_embeddings(one.start for one in chosen.values())),
    ]
    for flag, share in (("--share-all-embeddings", 0.3), ("--layernorm-embedding", 0.2)):
        flags += [flag] if rng.random() < share else []
    return flags


def is_blind(name, stacks):
    """Parameters whose gradient is zero by their nature: all that reads them takes them away.

    With a value residual all layers of a stack read the values of the first one.
    """
    side, rest = name.split(".", 1)
    shared = rest == "layers.0.self_attn.v_proj.bias" and stacks[side].value != "none"
    layers = stacks[side].depth[list(SLOTS).index(side)] if shared else 1
    return all(is_taken_away(name.replace(".0.", f".{n}.", n), stacks) for n in range(layers))


def is_taken_away(name, stacks):
    """Whether the layer of a parameter takes away what it adds, with the reason.

    Softmax does not see what is added to all scores of a query, which is all that k_proj's bias adds. A BatchNorm
    takes away what its argument has in common for all tokens: after F the biases of F's last projection, and
    v_proj's, which attention's weights of sum one hand on; in a recursion the inner steps' biases. (A highway's gate
    differs by token.) Before the first sub-layer both streams of SiameseNorm have the embedding's direction, so that
    one's length is taken away by ScaleNorm.
    """
    side, part, layer, *_ = name.split(".")[:3]
    if part != "layers":
        return False
    stack = stacks[side].at(int(layer))
    if name.endswith("k_proj.bias"):
        return stack.qk_norm == "none"  # a norm of keys sees it
    if name.endswith("v_proj.bias") and stack.qk_norm == "rms-qkv":
        return False  # so does one of values
    slots = {"self_attn": "self_attn", "encoder_attn": "cross_attn", "fc2": "ffn", "final_layer_norm": "ffn"}
    slot = next((slot for part, slot in slots.items() if f".{part}" in name), None)
    if slot is None:
        return False
    config = getattr(stack, slot)
    if (config.skip, config.norm, layer, slot) == ("siamese", "scale", "0", "self_attn"):
        return name.endswith("skip.norms.0.weight")
    if config.norm != "batch":
        return False
    if ".skip.norms." in name:
        return name.endswith("bias")
    index, size = SLOTS[side].index(slot), len(SLOTS[side])
    where = Site(1, side=side, slot=slot, index=index, size=size, layer=int(layer), depth=stack.depth)
    placement = config.placed(where)
    summed = issubclass(placement, Post) and placement.has_norm and config.skip != "highway"
    last = name.endswith((".v_proj.bias", ".out_proj.bias", "fc2.bias"))
    return last and (summed or config.placement in ("res-post", "sandwich"))


def check(seed, tmp_path):
    flags = [*combination(seed), "--dropout", "0", "--export"]
    print(" ".join(flags))  # shown when the test fails
    stacks = connections(parse("transformer_rskip", *flags))
    model = build("transformer_rskip", *flags, seed=seed)
    inputs, labels = batch(), batch(seed=1)[2]

    def loss():
        return F.cross_entropy(model(*inputs)[0].flatten(0, 1), labels.flatten(), ignore_index=1)

    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for update in range(2):
        model.set_num_updates(update)
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    model.set_num_updates(2)
    for module in model.modules():  # a branch that is dropped has no gradient
        if hasattr(module, "drop_path"):
            module.drop_path = 0.0
    model.double()
    optimiser.zero_grad()
    final = loss()
    final.backward()
    assert final.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if name.endswith("end_mixing.weight") and parameter.numel() == 1:
            continue  # a mixing of one output is a factor, which a ScaleNorm at the end takes away
        if is_blind(name, stacks):
            assert parameter.grad.abs().max() < NOISE, name
        else:
            assert parameter.grad.abs().max() > 0, name

    model.float().eval()
    with torch.no_grad():
        source, lengths, target = inputs
        full = model(source, lengths, target)[0]
        encoder_out, state = model.encoder(source, lengths), {}
        for end in range(1, target.size(1) + 1):
            step = model.decoder(target[:, :end], encoder_out=encoder_out, incremental_state=state)[0]
            real = target[:, end - 1].ne(1)
            torch.testing.assert_close(step[real, -1], full[real, end - 1], rtol=1e-4, atol=1e-5)

        torch.jit.script(model).save(str(tmp_path / "scripted.pt"))
        scripted = torch.jit.load(str(tmp_path / "scripted.pt"))
        torch.testing.assert_close(scripted(*inputs)[0], full, rtol=1e-4, atol=1e-5)

        torch.save(model.state_dict(), tmp_path / "state.pt")
        other = build("transformer_rskip", *flags, seed=seed + 1).eval()
        other.load_state_dict(torch.load(tmp_path / "state.pt"))
        assert torch.equal(other(*inputs)[0], full)


@pytest.mark.parametrize("seed", range(30))
def test_a_random_combination_works(seed, tmp_path):
    check(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30, 1030))
def test_many_random_combinations_work(seed, tmp_path):
    check(seed, tmp_path)


def reached(seeds):
    """By axis what these combinations have, each layer's own too."""
    found = defaultdict(set)
    for seed in seeds:
        for stack in connections(parse("transformer_rskip", *combination(seed))).values():
            found["drop_path"].add(stack.drop_path > 0)
            found["by_layer"].add(len(stack.all()) > 1)
            for one in stack.all():
                found["qk_norm"].add(one.qk_norm)
                found["start"].add(one.start)
                found["value"].add(one.value)
                found["source"].add(one.source)
                found["embedding"].add(one.embedding)
                for connection in (one.self_attn, one.cross_attn, one.ffn):
                    for axis in ("skip", "norm", "placement", "mixing", "solver"):
                        found[axis].add(getattr(connection, axis))
    return found


def test_the_combinations_reach_the_whole_family():
    found = reached(range(30))
    assert found.pop("drop_path") == found.pop("by_layer") == {False, True}
    assert found == {axis.axis: set(axis) for axis in REGISTRIES}
