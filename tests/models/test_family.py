"""Random combinations of all axes, through the real parser: each one trains, decodes, scripts and is stored."""

import random
from contextlib import suppress

import pytest
import torch
from torch.nn import functional as F

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.models.family import (
    valid_mixings,
    valid_norms,
    valid_placements,
    valid_qk_norms,
    valid_solvers,
    valid_sources,
    valid_values,
)
from skipln_fairseq.models.flags import SLOTS, connections
from skipln_fairseq.models.refuse import refuse
from skipln_fairseq.nn import (
    EMBEDDINGS,
    MIXINGS,
    NORMS,
    PLACEMENTS,
    SKIPS,
    SOLVERS,
    SOURCES,
    STARTS,
    VALUES,
)
from skipln_fairseq.nn.placement.post import Post
from skipln_fairseq.nn.skip import Site
from tests.support.build import batch, build, parse

NOISE = 1e-7  # fairseq's attention takes its softmax in single precision, also in a float64 model


def drawn(rng, option):
    """A value of an option, as text; nothing for a switch."""
    low, high = option.drawn
    if option.choices:
        return [rng.choice(option.choices)]
    if option.metavar is None:
        return []
    return [str(rng.randint(int(low), int(high))) if option.kind is int else f"{rng.uniform(low, high):.4f}"]


def side_flags(rng, side, skip, placement, first_norm, mixing, solver="none"):
    """Norms for each sub-layer that go with both choices, then the numbers that all of them need or may have."""
    norms = [
        norm
        for norm in valid_norms(skip)
        if placement in valid_placements(skip, norm)
        and mixing in valid_mixings(skip, norm, placement)
        and solver in valid_solvers(skip, norm, placement, mixing)
    ]
    flags = [f"--{side}-skip-type", skip, f"--{side}-norm-placement", placement]
    flags += [f"--{side}-depth-mixing", mixing]
    chosen = {slot: rng.choice(norms) for slot in SLOTS[side]} | {"self_attn": first_norm}
    flags += [f"--{side}-skip-norm", first_norm]  # of the self-attention, where a norm may stand or not
    for slot in SLOTS[side][1:]:
        flags += [f"--{side}-{slot.replace('_', '-')}-skip-norm", chosen[slot]]
    flags += ["--encoder-solver", solver] if side == "encoder" else []
    variants = [SKIPS[skip], MIXINGS[mixing], SOLVERS[solver], *(NORMS[norm] for norm in chosen.values())]
    options = {option.flag: option for variant in variants for option in variant.declaration.options}
    place = PLACEMENTS[placement]
    options |= {
        option.flag: option
        for option in place.declaration.options
        if not any(place.refuses(NORMS[norm], **{option.name: option.read(1)}) for norm in chosen.values())
    }
    for name, option in sorted(options.items()):
        if option.default is None or rng.random() < 0.5:
            flags += [f"--{side}-{name.replace('_', '-')}", *drawn(rng, option)]
    return flags


TRIPLES = [
    (skip, placement, norm)
    for skip in SKIPS
    for norm in valid_norms(skip)
    for placement in valid_placements(skip, norm)
]


def mixed(triples, mixing):
    """Those that a mixing goes with."""
    return [(*t, mixing) for t in triples if mixing in valid_mixings(t[0], t[2], t[1])]


def combination(seed):
    """The encoder takes the seed's skip type and the decoder its norm and placement, and the two the next mixings, so
    that each choice has its turn however many there are; all else is random. Where a mixing does not go with the
    rest, there is none, and where a placement does not, another one."""
    rng = random.Random(seed)
    skip, norm, placement = (list(axis)[seed % len(axis)] for axis in (SKIPS, NORMS, PLACEMENTS))
    mixings = [list(MIXINGS)[(seed // 3 + n) % len(MIXINGS)] for n in range(2)]
    ours = [triple for triple in TRIPLES if triple[0] == skip]
    solver = list(SOLVERS)[seed % len(SOLVERS)]
    alone = SOLVERS[solver].remembers  # without a mixing
    found = mixed(ours, "none" if alone else mixings[0]) or mixed(ours, "none")
    solved = [each for each in found if solver in valid_solvers(each[0], each[2], each[1], each[3])]
    encoder, solver = (rng.choice(solved), solver) if solved else (rng.choice(found), "none")
    same_norm = [triple for triple in TRIPLES if triple[2] == norm]
    both = [triple for triple in same_norm if triple[1] == placement]
    ways = (both, mixings[1]), (both, "none"), (same_norm, mixings[1]), (same_norm, "none")
    decoder = rng.choice(next(found for way in ways if (found := mixed(*way))))
    flags = [*side_flags(rng, "encoder", *encoder, solver), *side_flags(rng, "decoder", *decoder)]
    for flag, share in (("--share-all-embeddings", 0.3), ("--layernorm-embedding", 0.2)):
        flags += [flag] if rng.random() < share else []
    qk_norms = {
        side: valid_qk_norms(place) for side, (_, place, *_) in (("encoder", encoder), ("decoder", decoder))
    }
    chosen = [found[(seed + n) % len(found)] for n, found in enumerate(qk_norms.values())]
    for side, name in zip(qk_norms, chosen, strict=True):
        flags += [f"--{side}-qk-norm", name]
    flags += ["--qk-norm-length", str(rng.randint(5, 60))] if "unit" in chosen else []
    flags += ["--embedding-norm", list(EMBEDDINGS)[seed % len(EMBEDDINGS)]]
    for side, solved in (("encoder", solver), ("decoder", "none")):
        values = valid_values(solved)
        flags += [f"--{side}-value-residual", values[seed % len(values)]]
    sources = valid_sources(encoder[0], encoder[3])
    flags += ["--cross-attention-source", sources[seed % len(sources)]]
    start = ["--encoder-initialisation", list(STARTS)[seed // 2 % len(STARTS)]]
    with suppress(UserError):  # where the other choices have first weights of their own, or norms
        refuse(parse("transformer_rskip", *flags, *start))
        flags += start
    return flags


def is_blind(name, stacks):
    """Parameters whose gradient is zero by their nature, with the reason.

    Softmax does not see what is added to all scores of a query, which is all that k_proj's bias adds. A BatchNorm
    takes away what its argument has in common for all tokens: after F the biases of F's last projection, and
    v_proj's, which attention's weights of sum one hand on; in a recursion the inner steps' biases. (A highway's gate
    differs by token.)
    """
    side, *_ = name.split(".")
    if name.endswith("k_proj.bias"):
        return stacks[side].qk_norm == "none"  # a norm of keys sees it
    if name.endswith("v_proj.bias") and stacks[side].qk_norm == "rms-qkv":
        return False  # so does one of values
    slots = {"self_attn": "self_attn", "encoder_attn": "cross_attn", "fc2": "ffn", "final_layer_norm": "ffn"}
    slot = next((slot for part, slot in slots.items() if f".{part}" in name), None)
    if slot is None or getattr(stacks[side], slot).norm != "batch":
        return False
    config = getattr(stacks[side], slot)
    if ".skip.norms." in name:
        return name.endswith("bias")
    index, size = SLOTS[side].index(slot), len(SLOTS[side])
    where = {"side": side, "slot": slot, "index": index, "size": size, "depth": stacks[side].depth}
    placement = config.placed(Site(1, layer=int(name.split(".")[2]), **where))
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
    model.double()
    optimiser.zero_grad()
    final = loss()
    final.backward()
    assert final.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
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
@pytest.mark.parametrize("seed", range(30, 230))
def test_many_random_combinations_work(seed, tmp_path):
    check(seed, tmp_path)


def test_the_combinations_reach_the_whole_family():
    stacks = [
        stack
        for seed in range(30)
        for stack in connections(parse("transformer_rskip", *combination(seed))).values()
    ]
    connected = [config for s in stacks for config in (s.self_attn, s.cross_attn, s.ffn)]
    assert {config.skip for config in connected} == set(SKIPS)
    assert {config.norm for config in connected} == set(NORMS)
    assert {config.placement for config in connected} == set(PLACEMENTS)
    assert {config.mixing for config in connected} == set(MIXINGS)
    assert {config.solver for config in connected} == set(SOLVERS)
    assert {stack.value for stack in stacks} == set(VALUES)
    assert {stack.source for stack in stacks} == set(SOURCES)
