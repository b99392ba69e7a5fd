"""What is refused when a model is built, beyond the flags' own ranges: combinations with fairseq's features."""

from collections.abc import Iterator

from omegaconf import DictConfig

from ..common.errors import UserError
from ..nn import MIXINGS, NORMS, PLACEMENTS, SKIPS, SOLVERS
from ..nn.norm.workers import is_parallel
from ..nn.skip import Site
from .attention_flags import refuse_attention
from .choices import SIDES, SLOTS, slots_of
from .config import StackConfig
from .flags import connections, parts_of
from .word_vectors import refuse_embedding_norm

__all__ = ["refuse"]


def _refuse_hydra(args) -> None:
    # Its configuration knows no flag of ours, and answers None for what is not in it, so that no preset could
    # fill anything: it would train another model without a word. Hydra shows any Exception with a traceback.
    if isinstance(args, DictConfig):
        raise SystemExit(
            "skipln_fairseq: error: fairseq-hydra-train knows neither presets nor flags of this plugin "
            "(nor of fairseq's transformer): use fairseq-train --arch"
        )


def _refuse_base_layers(args, stacks: dict[str, StackConfig]) -> None:
    # BASE layers bring their own x + F(LN(x)), which our flags would not reach.
    stock = all(
        (config.ffn.skip, config.ffn.norm) == ("plain", "layer") and config.ffn.placement in ("post", "pre")
        for config in stacks["decoder"].all()
    )
    if getattr(args, "base_layers", 0) and not stock:
        raise UserError(
            "--base-layers: a BASE layer has its own connection; valid only with --skip-type plain, "
            "LayerNorm, and placement post or pre"
        )


def _refuse_layerdrop_across_workers(args, stacks: dict[str, StackConfig]) -> None:
    # Each worker drops other layers, so one would wait for statistics that the other never sums.
    for side, config in stacks.items():
        norms = {norm for norm in _norms(config) if NORMS[norm].declaration.kind == "batch"}
        if norms and getattr(args, f"{side}_layerdrop", 0) and is_parallel():
            raise UserError(
                f"--{side}-layerdrop with --skip-norm {' / '.join(sorted(norms))} on several workers: each worker "
                "drops other layers, so their statistics cannot be summed; valid on one worker"
            )


def _norms(config: StackConfig) -> set[str]:
    return {slot.norm for one in config.all() for slot in (one.self_attn, one.cross_attn, one.ffn)}


def _refuse_what_changes_state_behind_the_model(args, stacks: dict[str, StackConfig]) -> None:
    norms = set().union(*map(_norms, stacks.values()))
    skips = {one.ffn.skip for config in stacks.values() for one in config.all()}
    # fairseq's moving average multiplies every entry of the state, flags and counters too
    no_means = [f"--skip-type {skip}" for skip in sorted(skips) if not SKIPS[skip].is_a_mean]
    no_means += [f"--skip-norm {norm}" for norm in sorted(norms) if not NORMS[norm].is_a_mean]
    if getattr(args, "store_ema", False) and no_means:
        raise UserError(
            f"--store-ema has no meaning with {no_means[0]}: a mean of its states is none of them"
        )
    favor = any("favor" in (config.attention.type, config.cross_attention.type) for config in stacks.values())
    if getattr(args, "store_ema", False) and favor:
        raise UserError(
            "--store-ema does not go with favor attention: the mean of two draws of features is no draw"
        )
    # autocast would make half-precision products of sums that need single
    if getattr(args, "amp", False) and favor:
        raise UserError(
            "--amp does not go with favor attention: valid are single precision, --fp16 and --bf16"
        )
    # its backward keeps running gradients, whose unit the loss scale would change from update to update
    scaled = [flag for flag in ("fp16", "memory_efficient_fp16", "amp") if getattr(args, flag, False)]
    running = [norm for norm in sorted(norms) if NORMS[norm].keeps_gradients]
    if scaled and running:
        flag = f"--{scaled[0].replace('_', '-')}"
        raise UserError(
            f"--skip-norm {running[0]} does not go with {flag}: valid are single precision and --bf16"
        )


def _refuse_streams_that_do_not_fit(stacks: dict[str, StackConfig]) -> None:
    for side, config in stacks.items():
        rules = dict.fromkeys((one.ffn.skip, one.ffn.options) for one in config.all())
        wide = [skip for skip, _ in rules if SKIPS[skip].is_wide]
        if wide and len(rules) > 1:
            raise UserError(
                f"--{side}-by-layer: --skip-type {wide[0]} hands on more than x, so that all layers have to have it, "
                "with the same numbers"
            )


def _refuse_mixings_of_two_kinds(stacks: dict[str, StackConfig]) -> None:
    for side, config in stacks.items():
        kinds = {PLACEMENTS[one.ffn.placement].ends_with_norm for one in config.all()}
        if MIXINGS[config.ffn.mixing].needs_one_kind and len(kinds) > 1:
            raise UserError(
                f"--{side}-by-layer: --depth-mixing {config.ffn.mixing} norms plain sums before it adds them up, and "
                "the sum of normed outputs after: all layers have to have a norm after x + F(x), or none of them"
            )


def _refuse_narrow_uses_of_wide_streams(args, stacks: dict[str, StackConfig]) -> None:
    skip = stacks["decoder"].ffn.skip
    if getattr(args, "scale_resids", False) and SKIPS[skip].is_wide:
        raise UserError(
            f"--scale-resids has no meaning with --skip-type {skip}: its skip carries more than x"
        )
    if getattr(args, "no_decoder_final_norm", False) and SKIPS[skip].merges:
        raise UserError(f"--no-decoder-final-norm with --skip-type {skip}: that norm merges its streams")


def _refuse_widths(args, stacks: dict[str, StackConfig]) -> None:
    for side, stack in stacks.items():
        for own in (one.ffn for one in stack.all()):
            reason = SKIPS[own.skip].refusal(getattr(args, f"{side}_embed_dim"), **dict(own.options))
            if reason:
                raise UserError(f"--skip-type {own.skip}: {reason} (--{side}-embed-dim)")


def _norms_of_slots(args, side: str, layers: int) -> Iterator[tuple[str, str, range]]:
    """Each norm that was chosen for one kind of sub-layer: its flag, the sub-layer, and the layers that have it."""
    for slot in SLOTS[side]:
        if getattr(args, f"{side}_{slot}_skip_norm", None):
            yield f"--{side}-{slot.replace('_', '-')}-skip-norm", slot, range(layers)
    for part in parts_of(args, side):
        for name, _ in part.choices:
            if name.endswith("_skip_norm"):
                flag = f"--by-layer {part.first}-{part.last}:{name.replace('_', '-')}"
                yield flag, name.removesuffix("_skip_norm"), range(part.first, part.last + 1)


def _refuse_norms_that_stand_nowhere(args, stacks: dict[str, StackConfig]) -> None:
    for side, config in stacks.items():
        slots, layers = slots_of(args, side), dict(zip(SIDES, config.depth, strict=True))[side]
        for flag, slot, those in _norms_of_slots(args, side, layers):
            if slot not in slots:
                raise UserError(f"{flag} has no meaning: the {side} has no such sub-layer")
            where = {"side": side, "slot": slot, "index": slots.index(slot), "size": len(slots)}
            placed = [
                getattr(config.at(layer), slot).placed(Site(1, layer=layer, depth=config.depth, **where))
                for layer in those
            ]
            # a layer's last sub-layer has the norm at the end of the stack
            if slot != slots[-1] and placed and not any(one.has_norm for one in placed):
                raise UserError(
                    f"{flag} has no meaning with --norm-placement {getattr(config.at(those[0]), slot).placement}: "
                    "no norm stands there"
                )


def _refuse_what_leaves_layers_out(args, stacks: dict[str, StackConfig]) -> None:
    # What a block reads is made of the outputs or values of certain blocks before it, in numbers that belong to each.
    for side, config in stacks.items():
        flags = [f"{side}_layerdrop", f"{side}_layers_to_keep"]
        flags += ["base_layers"] if side == "decoder" else []
        given = [name for name in flags if getattr(args, name, None)]
        for flag, choice in config.own_loop().items():
            if given and (flag != "--encoder-solver" or SOLVERS[choice].remembers):
                raise UserError(
                    f"--{given[0].replace('_', '-')} does not go with {flag} {choice} of the {side}"
                )


def _refuse_what_draws_in_a_projection(args, stacks: dict[str, StackConfig]) -> None:
    # quantisation noise is drawn where a projection is called, and these are not
    for side, config in stacks.items():
        if config.value != "none" and getattr(args, "quant_noise_pq", 0):
            raise UserError(
                f"--quant-noise-pq does not go with --value-residual {config.value} of the {side}"
            )


def _refuse_what_our_loops_cannot_have(args, stacks: dict[str, StackConfig]) -> None:
    for side, config in stacks.items():
        for flag, choice in config.own_loop().items():
            if getattr(args, "offload_activations", False):
                raise UserError(f"--offload-activations does not go with {flag} {choice} of the {side}")


def refuse(args) -> None:
    """Refuse what cannot work.

    Raises:
        UserError: in one line, with the flag and what is valid.
        SystemExit: for hydra's configuration.
    """
    _refuse_hydra(args)
    refuse_attention(args)
    stacks = connections(args)
    refuse_embedding_norm(args, stacks.values())
    _refuse_streams_that_do_not_fit(stacks)
    _refuse_mixings_of_two_kinds(stacks)
    _refuse_base_layers(args, stacks)
    _refuse_layerdrop_across_workers(args, stacks)
    _refuse_narrow_uses_of_wide_streams(args, stacks)
    _refuse_widths(args, stacks)
    _refuse_what_changes_state_behind_the_model(args, stacks)
    _refuse_norms_that_stand_nowhere(args, stacks)
    _refuse_what_leaves_layers_out(args, stacks)
    _refuse_what_draws_in_a_projection(args, stacks)
    _refuse_what_our_loops_cannot_have(args, stacks)


def join_kept_layers(args) -> None:
    """fairseq's parser makes a list of ``--encoder-layers-to-keep 0,2``; all that follows splits a string."""
    for side in SIDES:
        kept = getattr(args, f"{side}_layers_to_keep", None)
        if isinstance(kept, list):
            setattr(args, f"{side}_layers_to_keep", ",".join(map(str, kept)))
