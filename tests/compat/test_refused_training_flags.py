"""Flags of training that cannot act, or would end in an error, are refused in one line."""

import pytest
from fairseq import options
from fairseq.models import ARCH_MODEL_REGISTRY

from skipln_fairseq.common.errors import UserError
from tests.support.commands import TRAIN, run

REFUSED = {
    "fairseq-train": [
        ("--save-interval=0", "--save-interval 0: valid is a whole number from 1"),
        ("--save-interval-updates=-1", "--save-interval-updates -1: valid is a whole number from 0"),
        ("--keep-last-epochs=0", "--keep-last-epochs 0: valid is a whole number from 1, or -1 for no limit"),
        ("--keep-best-checkpoints=0", "--keep-best-checkpoints 0: valid is"),
        ("--patience=0", "--patience 0: valid is"),
        ("--keep-interval-updates=2", "--keep-interval-updates acts only beside --save-interval-updates"),
        (
            "--save-interval-updates=2 --keep-interval-updates-pattern=2",
            "--keep-interval-updates-pattern acts only beside --keep-interval-updates",
        ),
        (
            "--no-epoch-checkpoints --keep-last-epochs=2",
            "--keep-last-epochs does nothing beside --no-epoch-checkpoints",
        ),
        ("--no-save --keep-last-epochs=2", "--keep-last-epochs does nothing beside --no-save"),
        ("--keep-best-checkpoints=2 --checkpoint-suffix=_a", "without an underscore"),
        ("--write-checkpoints-asynchronously", "--write-checkpoints-asynchronously: fairseq writes one file"),
        ("--checkpoint-shard-count=2", "--checkpoint-shard-count: fairseq-train does not read it"),
        ("--continue-once=nowhere.pt", "--continue-once nowhere.pt: no such file"),
        ("--optimizer-overrides={lr:1}", "--optimizer-overrides '{lr:1}': valid is"),
        ("--optimizer-overrides=[1]", "--optimizer-overrides '[1]': valid is"),
        ("--optimizer-overrides={'lr':1}", "--optimizer-overrides: the scheduler sets lr"),
        ("--lr=-1", "--lr -1.0: valid are finite numbers from 0"),
        ("--lr=0.1,1e999", "--lr 0.1,inf: valid are finite numbers from 0"),
        ("--adam-betas=(0.9,0.98", "--adam-betas '(0.9,0.98': valid is"),
        ("--adam-betas=0.9", "--adam-betas '0.9': valid is"),
        ("--adam-betas=(0.9,1.0)", "--adam-betas '(0.9,1.0)': valid is"),
        ("--criterion=adaptive_loss", "--criterion adaptive_loss needs --adaptive-softmax-cutoff"),
        (
            "--criterion=adaptive_loss --adaptive-softmax-cutoff=9",
            "--criterion adaptive_loss needs --ddp-backend legacy_ddp",
        ),
        *(
            (
                f"--adaptive-softmax-cutoff=9 --criterion={criterion}",
                f"--criterion {criterion} trains no adaptive",
            )
            for criterion in ("cross_entropy", "fused_label_smoothed_cross_entropy")
        ),
        ("--quantization-config-path=x.yaml", "--quantization-config-path: fairseq has no way to load"),
        ("--disable-validation --patience=2", "--patience does nothing beside --disable-validation"),
        ("--disable-validation --eval-bleu", "--eval-bleu does nothing beside --disable-validation"),
        ("--validate-interval=0", "--validate-interval 0: valid is a whole number from 1"),
        ("--max-valid-steps=0", "--max-valid-steps 0: valid is a whole number from 1"),
        ("--batch-size-valid=0", "--batch-size-valid 0: valid is a whole number from 1"),
        ("--max-tokens-valid=many", "--max-tokens-valid many: valid is a whole number from 1"),
        ("--gen-subset=valid", "--gen-subset: fairseq-train does not read it"),
        ("--num-shards=2 --shard-id=1", "--num-shards: fairseq-train does not read it"),
        ("--combine-valid-subsets --valid-subset=test", "--valid-subset does nothing beside --combine-valid"),
        ("--eval-bleu-print-samples", "--eval-bleu-print-samples acts only beside --eval-bleu"),
        ("--eval-bleu --eval-bleu-args={beam:5}", "--eval-bleu-args '{beam:5}' is no JSON"),
        ("--eval-bleu --eval-bleu-args=[5]", "--eval-bleu-args '[5]': valid is"),
        (
            '--eval-bleu --eval-bleu-args={"beam-size":5}',
            "--eval-bleu-args: fairseq-generate has no --beam-size",
        ),
    ],
    "fairseq-generate": [
        ("--save-dir=x", "--save-dir: fairseq-generate does not read it"),
        ("--restore-file=x", "--restore-file: fairseq-generate does not read it"),
        ("--valid-subset=test", "--valid-subset: fairseq-generate does not read it"),
        (
            "--checkpoint-shard-count=2",
            "--checkpoint-shard-count 2: fairseq puts together what fairscale",
        ),
    ],
    "fairseq-interactive": [("--gen-subset=valid", "--gen-subset: fairseq-interactive does not read it")],
    "fairseq-eval-lm": [
        (
            "--context-window=64 --tokens-per-sample=64",
            "--context-window 64: valid is 0 to --tokens-per-sample",
        ),
        ("--context-window=-1", "--context-window -1: valid is 0 to --tokens-per-sample - 1"),
        ("--num-shards=2 --shard-id=2", "--shard-id 2: valid is 0 to --num-shards - 1, 1"),
        ("--valid-subset=test", "--valid-subset: fairseq-eval-lm does not read it"),
    ],
    "fairseq-validate": [
        ("--task=translation --max-tokens-valid=99", "--max-tokens-valid: fairseq-validate does not read it"),
        ("--task=translation --num-shards=2", "--num-shards: fairseq-validate does not read it"),
        ("--batch-size=4", "no --task: name the model's, for example --task translation"),
    ],
}


@pytest.mark.parametrize(
    ("command", "flags", "message"), [(command, *row) for command, rows in REFUSED.items() for row in rows]
)
def test_refused_in_one_line(data, trained, tmp_path, command, flags, message):
    rest = (*TRAIN, "--save-dir", tmp_path / "run") if command == "fairseq-train" else ()
    rest = rest or ("--path", trained.checkpoint, "--cpu")
    finished = run(command, data, *rest, *flags.split(), succeeds=False)
    (error,) = (line for line in finished.output.splitlines() if "error:" in line)
    assert message in error
    assert "Traceback" not in finished.output
    assert not (tmp_path / "run").exists()


def test_of_all_architectures_those_with_an_adaptive_softmax_alone_refuse_the_loss_that_nobody_names():
    """LSTMs and convolutional language models have cutoffs by default, and such a softmax only with its loss."""
    refused = {}
    for arch in ARCH_MODEL_REGISTRY:
        try:
            options.parse_args_and_arch(options.get_training_parser(), ["data", f"--arch={arch}"])
        except UserError as error:
            refused[arch] = str(error)
    names = {"transformer_lm_wiki103", "transformer_lm_baevski_wiki103", "transformer_lm_rskip_wiki103"}
    assert refused.keys() == names
    assert all("--criterion cross_entropy trains no adaptive softmax" in said for said in refused.values())
