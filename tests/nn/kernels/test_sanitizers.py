"""The kernels of decoding, compiled so that a wrong address or undefined arithmetic ends the process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from skipln_fairseq.decoding.generator import QuickGenerator
from skipln_fairseq.nn.kernels.decode import kind
from tests.decoding.test_generator import sharpened
from tests.decoding.test_search import sample_of
from tests.support.build import build

ROOT = Path(__file__).parents[3]
FLAGS = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined"
SCRIPT = f"from {__name__} import search; search()"
# heads and feed-forwards that fill no vector; norms before each map
MODELS = (
    "--skip-order 2 --encoder-embed-dim 24 --encoder-attention-heads 4 --decoder-ffn-embed-dim 20",
    "--skip-type plain --norm-placement sub --connection-form first --encoder-ffn-embed-dim 40",
)


def search():
    """Batches one after another, in one call and step by step, with products of each form."""
    for flags in MODELS:
        for form in ("fp32", "bf16", "int8"):
            model = sharpened(build("transformer_rskip", *flags.split()))
            model.inference_type = form
            model.make_generation_fast_()
            for lengths, beam in (((5, 3, 1), 3), ((300, 2), 1), ((40,) * 9, 9)):
                generator = QuickGenerator([model], model.decoder.dictionary, beam_size=beam, max_len_b=7)
                sample = sample_of(*lengths)
                generator.generate([model], sample)
                generator.search_by_steps(sample["net_input"], first=2)
    print(kind())


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["", "-march=x86-64-v3", "-march=x86-64-v2"])
def test_no_address_is_wrong(flags, tmp_path):
    if kind() is None:
        pytest.skip("no C compiler")
    if flags and kind().startswith(("neon", "portable")):
        pytest.skip("no such processor")
    command = (os.environ.get("CC", "cc"), "-print-file-name=libasan.so")
    library = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(library).is_absolute():
        pytest.skip("the compiler has no address sanitizer")
    env = {
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0",
        "SKIPLN_CFLAGS": f"{FLAGS} {flags}",
        "XDG_CACHE_HOME": str(tmp_path),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", SCRIPT]
    ended = subprocess.run(command, env=os.environ | env, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert ended.stdout.strip()
