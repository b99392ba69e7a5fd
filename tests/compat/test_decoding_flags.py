"""Each flag of the decoding commands acts, or is refused in one line."""

import pytest
from fairseq.dataclass.configs import GenerationConfig

from skipln_fairseq.compat import decoding_flags
from tests.support.commands import run

REFUSED = [
    ("--beam=0", "--beam 0: valid is a whole number from 1"),
    ("--nbest=0", "--nbest 0: valid is 1 to --beam, which is 5"),
    ("--nbest=6", "--nbest 6: valid is 1 to --beam, which is 5"),
    ("--min-len=50 --max-len-b=40", "--min-len 50 is larger than --max-len-b 40"),
    ("--min-len=-1", "--min-len -1: valid is a whole number from 0"),
    ("--max-len-b=-5", "--max-len-b -5: valid is a whole number from 1"),
    ("--batch-size=0", "--batch-size 0: valid is a whole number from 1"),
    ("--prefix-size=-1", "--prefix-size -1: valid is a whole number from 0"),
    ("--no-repeat-ngram-size=-1", "--no-repeat-ngram-size -1: valid is a whole number from 0"),
    ("--lenpen=nan", "--lenpen nan: valid is a finite number"),
    ("--temperature=0", "--temperature 0.0: valid is a finite number above 0"),
    ("--sampling", "--nbest 1 must equal --beam 5"),
    ("--sampling --nbest=5 --sampling-topk=0", "--sampling-topk 0: valid is a whole number from 1"),
    ("--sampling --nbest=5 --sampling-topp=2", "--sampling-topp 2.0: valid is above 0 and at most 1"),
    ("--sampling-topk=3", "--sampling-topk acts only beside --sampling"),
    ("--lm-weight=0.3", "--lm-weight acts only beside --lm-path"),
    ("--diverse-beam-strength=0.3", "--diverse-beam-strength acts only beside --diverse-beam-groups"),
    ("--retain-dropout-modules=X", "--retain-dropout-modules acts only beside --retain-dropout"),
    ("--diverse-beam-groups=2", "--beam 5 must be a multiple of it"),
    ("--replace-unk", "--replace-unk: there is no source word to copy"),
    ("--replace-unk=words.txt", "--replace-unk: there is no source word to copy"),
    ("--score-reference --print-alignment=soft", "--print-alignment soft: --score-reference prints hard"),
    ("--constraints", "--constraints: a data folder holds none; use fairseq-interactive"),
    ("--print-step", "--print-step has no meaning with --task translation: translation_lev read it"),
    ("--decoding-format=vote", "--decoding-format has no meaning with --task translation"),
    ("--eos-token=x", "--eos-token has no meaning with --task translation"),
    ("--sacrebleu --scoring=wer", "--sacrebleu and --scoring wer: one scorer at a time"),
    ("--no-early-stop", "--no-early-stop does nothing"),
    ("--num-shards=2 --shard-id=1", "--num-shards and --shard-id: only fairseq-eval-lm reads them"),
]

# fmt: off
READ = {
    "beam", "nbest", "max_len_a", "max_len_b", "min_len", "match_source_len", "unnormalized", "lenpen", "unkpen",
    "sacrebleu", "score_reference", "prefix_size", "no_repeat_ngram_size", "sampling", "constraints", "temperature",
    "diverse_beam_groups", "diversity_rate", "print_alignment", "lm_path", "retain_dropout", "no_seed_provided",
}
# fmt: on


@pytest.mark.parametrize(("flags", "message"), REFUSED)
def test_refused_in_one_line(data, trained, flags, message):
    finished = run(
        "fairseq-generate", data, "--path", trained.checkpoint, "--cpu", *flags.split(), succeeds=False
    )
    errors = [line for line in finished.output.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in finished.output


def test_every_flag_of_generation_is_read_or_judged_here():
    """A flag that a later fairseq adds has to be looked at before it counts as read."""
    idle = {"no_early_stop", "no_beamable_mm", "replace_unk"}
    judged = {*decoding_flags.READ_BY, *decoding_flags.NEEDS, *idle}
    flags = set(vars(GenerationConfig())) - {"_name"}
    assert judged | READ == flags
    assert not judged & READ


def test_soft_alignment_is_refused_where_it_cannot_be_printed(data, trained):
    finished = run("fairseq-interactive", data, "--path", trained.checkpoint, "--cpu", "--print-alignment", "soft",
        stdin=b"a\n", succeeds=False)  # fmt: skip
    assert "error: --print-alignment soft: fairseq-interactive prints hard alignments only" in finished.output


def test_sacrebleu_scores_with_sacrebleu(data, trained):
    generate = ("fairseq-generate", data, "--path", trained.checkpoint, "--cpu", "--max-len-b=20")
    chosen = run(*generate, "--scoring", "sacrebleu", "--sacrebleu-lowercase").output.splitlines()[-1]
    assert "BLEU = " in chosen  # with its flags, as by --scoring
    assert run(*generate, "--sacrebleu", "--sacrebleu-lowercase").output.splitlines()[-1] == chosen
