"""Checkpoints as each generation of fairseq wrote them, made by hand from its public sources.

What changed between them: which classes are pickled, how parameters are called, and which flags there were.
"""

import contextlib
import sys
import types
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import ARCH_MODEL_REGISTRY
from omegaconf import OmegaConf
from torch import nn

GENERATIONS = ("0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "0.10", "0.12", "0.12.2")

# Flags that --arch transformer had in all of them, beside those of its size.
MODEL = {
    "arch": "transformer",
    "encoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_embed_dim": 16,
    "decoder_ffn_embed_dim": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "encoder_normalize_before": False,
    "decoder_normalize_before": False,
    "encoder_embed_path": None,
    "decoder_embed_path": None,
    "encoder_learned_pos": False,
    "decoder_learned_pos": False,
    "share_all_embeddings": False,
    "share_decoder_input_output_embed": False,
    "dropout": 0.1,
    "attention_dropout": 0.0,
}
TRAINING = {
    "no_progress_bar": False,
    "log_interval": 1000,
    "log_format": None,
    "seed": 1,
    "max_tokens": 4000,
    "max_sentences": None,
    "train_subset": "train",
    "valid_subset": "valid",
    "max_sentences_valid": None,
    "distributed_world_size": 1,
    "distributed_rank": 0,
    "distributed_backend": "nccl",
    "distributed_init_method": None,
    "distributed_port": -1,
    "device_id": 0,
    "max_epoch": 0,
    "max_update": 0,
    "clip_norm": 25,
    "sentence_avg": False,
    "optimizer": "adam",
    "adam_betas": "(0.9, 0.98)",
    "adam_eps": 1e-08,
    "lr": [0.0005],
    "momentum": 0.99,
    "weight_decay": 0.0,
    "lr_scheduler": "inverse_sqrt",
    "warmup_updates": 4000,
    "warmup_init_lr": 1e-07,
    "lr_shrink": 0.1,
    "min_lr": 1e-09,
    "save_dir": "checkpoints",
    "restore_file": "checkpoint_last.pt",
    "save_interval": 1,
    "save_interval_updates": 0,
    "no_save": False,
    "no_epoch_checkpoints": False,
    "validate_interval": 1,
    "criterion": "label_smoothed_cross_entropy",
    "label_smoothing": 0.1,
    "source_lang": "en",
    "target_lang": "de",
    "skip_invalid_size_inputs_valid_test": False,
}
# What each generation added to the one before it; None where it took a flag away.
ADDED = {
    "0.4": {"relu_dropout": 0.0, "max_source_positions": 1024, "max_target_positions": 1024, "workers": 1},
    "0.5": {
        "task": "translation",
        "raw_text": False,
        "left_pad_source": "True",
        "left_pad_target": "False",
        "update_freq": [1],
        "fp16": False,
        "workers": None,
    },
    "0.6": {
        "user_dir": None,
        "ddp_backend": "c10d",
        "bucket_cap_mb": 150,
        "fix_batches_to_gpus": False,
        "tensorboard_logdir": "",
        "fp16_init_scale": 128,
        "min_loss_scale": 0.0001,
        "threshold_loss_scale": None,
        "memory_efficient_fp16": False,
        "num_workers": 0,
        "required_batch_size_multiple": 8,
        "curriculum": 0,
        "reset_optimizer": False,
        "reset_lr_scheduler": False,
        "optimizer_overrides": "{}",
        "keep_interval_updates": -1,
        "adaptive_softmax_cutoff": None,
        "adaptive_softmax_dropout": 0,
        "no_token_positional_embeddings": False,
        "decoder_output_dim": 16,
        "decoder_input_dim": 16,
        "upsample_primary": 1,
    },
    "0.7": {
        "cpu": False,
        "dataset_impl": None,
        "lazy_load": False,
        "relu_dropout": None,
        "activation_dropout": 0.0,
        "activation_fn": "relu",
        "adaptive_input": False,
        "use_bmuf": False,
        "find_unused_parameters": False,
        "reset_dataloader": False,
        "reset_meters": False,
        "keep_last_epochs": -1,
        "no_last_checkpoints": False,
        "no_save_optimizer_state": False,
        "disable_validation": False,
        "max_tokens_valid": 4000,
    },
    "0.8": {
        "best_checkpoint_metric": "loss",
        "maximize_best_checkpoint_metric": False,
        "distributed_no_spawn": False,
        "lazy_load": None,
        "raw_text": None,
        "load_alignments": False,
        "truncate_source": False,
    },
    "0.9": {
        "empty_cache_freq": 0,
        "fast_stat_sync": False,
        "fixed_validation_seed": None,
        "layernorm_embedding": False,
        "no_scale_embedding": False,
        "no_cross_attention": False,
        "cross_self_attention": False,
        "layer_wise_attention": False,
        "encoder_layerdrop": 0,
        "decoder_layerdrop": 0,
        "encoder_layers_to_keep": None,
        "decoder_layers_to_keep": None,
    },
    "0.10": {
        "max_sentences": None,
        "batch_size": None,
        "batch_size_valid": None,
        "min_lr": None,
        "stop_min_lr": -1.0,
        "all_gather_list_size": 16384,
        "model_parallel_size": 1,
        "bpe": None,
        "tokenizer": None,
        "scoring": "bleu",
        "checkpoint_suffix": "",
        "eval_bleu": False,
        "tie_adaptive_weights": False,
        "quant_noise_pq": 0,
        "num_batch_buckets": 0,
        "patience": -1,
        "use_old_adam": False,
    },
}


def before(generation: str, other: str) -> bool:
    return GENERATIONS.index(generation) < GENERATIONS.index(other)


def flags_of(generation: str, data: Path, **more) -> Namespace:
    flags = {**MODEL, **TRAINING, "data": [str(data)] if before(generation, "0.7") else str(data)}
    for one, added in ADDED.items():
        if not before(generation, one):
            flags |= added
    gone = {name for added in ADDED.values() for name, value in added.items() if value is None}
    kept = {name: value for name, value in flags.items() if value is not None or name not in gone}
    return Namespace(**{**kept, **more})


class Dictionaries:
    """What a model asks of a task while it is built."""

    def __init__(self, data: Path):
        self.source_dictionary = Dictionary.load(str(data / "dict.en.txt"))
        self.target_dictionary = Dictionary.load(str(data / "dict.de.txt"))


def old_names(model: dict, generation: str) -> OrderedDict:
    """Today's parameters under the names that a generation gave them."""
    old = OrderedDict()
    for name, value in model.items():
        if before(generation, "0.9") and "_attn." in name and "_proj." in name and "out_proj" not in name:
            if ".q_proj." in name:
                old |= joined(model, name)
        elif name.endswith(".version"):
            if not before(generation, "0.6"):
                old[name] = torch.tensor([2.0 if generation == "0.6" else 3.0])
        elif name.endswith("output_projection.weight") and before(generation, "0.10"):
            if value.data_ptr() != model["decoder.embed_tokens.weight"].data_ptr():
                old["decoder.embed_out"] = value
        elif ".layer_norm." in name and before(generation, "0.6"):
            pass  # no norm stood after the last layer
        else:
            old[norm_name(name, generation)] = value
    for side in ("encoder", "decoder"):
        if f"{side}.embed_positions.weight" in model:
            continue
        old[f"{side}.embed_positions._float_tensor"] = torch.zeros(0 if before(generation, "0.6") else 1)
    if generation == "0.12.2":  # it kept copies of each layer's matrices, for a faster form of it
        for name in model:
            layer, _, kind = name.rpartition("self_attn.q_proj.")
            if name.startswith("encoder.") and layer:
                old |= {
                    f"{layer}{part}_{kind}": torch.zeros(2) for part in ("in_proj", "out_proj", "fc1", "fc2")
                }
    return old


def norm_name(name: str, generation: str) -> str:
    numbered = before(generation, "0.6") or (generation == "0.6" and name.startswith("encoder"))
    last = "1" if name.startswith("encoder") else "2"
    if numbered:
        for norm, number in (("self_attn", "0"), ("encoder_attn", "1"), ("final", last)):
            name = name.replace(f".{norm}_layer_norm.", f".layer_norms.{number}.")
    return name


def joined(model: dict, name: str) -> dict:
    """Queries, keys and values: one matrix, or three named apart where their widths differ; the bias is one."""
    parts = {one: model[name.replace(".q_proj.", f".{one}_proj.")] for one in "qkv"}
    if len({part.shape for part in parts.values()}) > 1:
        return {name.replace(".q_proj.", f".{one}_proj_"): part for one, part in parts.items()}
    return {name.replace(".q_proj.", ".in_proj_"): torch.cat(list(parts.values()))}


@contextlib.contextmanager
def classes_in(module: str, *names: str) -> Iterator[types.ModuleType]:
    """Classes of which nothing but the name matters, so that pickle can write that name."""
    stand_in, found = types.ModuleType(module), sys.modules.get(module)
    for name in names:
        setattr(stand_in, name, type(name, (), {"__module__": module}))
    sys.modules[module] = stand_in
    try:
        yield stand_in
    finally:
        sys.modules.pop(module)
        if found:
            sys.modules[module] = found


def with_attributes(kind: type, **attributes) -> object:
    made = kind()
    vars(made).update(attributes)
    return made


def meters(module: types.ModuleType) -> OrderedDict:
    """What ``trainer.meters`` was: instances of three classes."""
    made = OrderedDict()
    for name in ("train_loss", "valid_loss", "wpb", "gnorm"):
        made[name] = with_attributes(
            module.AverageMeter,
            val=np.float32(2.5),
            avg=np.float64(2.5),
            sum=torch.tensor(5.0),
            count=np.int64(2),
        )
    made["oom"] = with_attributes(module.AverageMeter, val=np.bool_(False), avg=0, sum=0, count=2)
    for name in ("wps", "ups", "wall"):
        made[name] = with_attributes(module.TimeMeter, init=0, start=1540000000.5, n=100)
    made["train_wall"] = with_attributes(module.StopwatchMeter, sum=1.5, n=3, start_time=None)
    return made


def build_state(generation: str, data: Path, **flags) -> tuple[nn.Module, dict]:
    """The model, and all that stands in its checkpoint but the counters."""
    args = flags_of(generation, data, **flags)
    torch.manual_seed(1)
    model = ARCH_MODEL_REGISTRY["transformer"].build_model(Namespace(**vars(args)), Dictionaries(data))
    if before(generation, "0.6"):
        model.encoder.layer_norm = model.decoder.layer_norm = None
    state = {
        "args": args,
        "model": old_names(model.state_dict(), generation),
        "optimizer_history": [
            {
                "criterion_name": "LabelSmoothedCrossEntropyCriterion",
                "optimizer_name": "FairseqAdam",
                "lr_scheduler_state": {"best": None},
                "num_updates": 7,
            }
        ],
        "extra_state": {
            "train_iterator": {"epoch": 1, "iterations_in_epoch": 0},
            "val_loss": 3.25,
            "best": 3.25,
        },
    }
    optimizer = torch.optim.Adam(
        [nn.Parameter(value) for name, value in state["model"].items() if is_trained(name)]
    )
    state["last_optimizer_state"] = optimizer.state_dict()
    return model.eval(), state


def is_trained(name: str) -> bool:
    return not name.endswith((".version", "_float_tensor"))


def write(generation: str, data: Path, path: Path, module: str = "fairseq.meters", **flags) -> nn.Module:
    """Write a checkpoint of *generation* with random parameters; the model that has them."""
    model, state = build_state(generation, data, **flags)
    if not before(generation, "0.12"):
        cfg = OmegaConf.to_container(convert_namespace_to_omegaconf(state["args"]))
        cfg["model"] = Namespace(**vars(state["args"]), _name="transformer")
        state |= {"args": None, "cfg": cfg}
    zipped = not before(generation, "0.10")  # torch 1.6 was the first to write zip archives
    with classes_in(module, "AverageMeter", "TimeMeter", "StopwatchMeter") as classes:
        if before(generation, "0.10"):
            state["extra_state"]["train_meters"] = meters(classes)
        else:
            wall = {"init": 12.5, "n": 0, "round": None}
            average = {"val": 2.5, "sum": 5.0, "count": 2, "round": 3}
            state["extra_state"]["metrics"] = {
                "default": [(790, "wall", "TimeMeter", wall)],
                "train": [(10, "loss", "AverageMeter", average)],
            }
        torch.save(state, path, _use_new_zipfile_serialization=zipped)
    return model
