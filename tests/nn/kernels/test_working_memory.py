"""Working memory of the kernels in C."""

from pathlib import Path

import pytest

from skipln_fairseq.nn.kernels import compiled
from skipln_fairseq.nn.kernels.decode import kind
from tests.support.commands import run

pytestmark = pytest.mark.skipif(kind() is None, reason="no C compiler")


def test_a_process_without_memory_ends_in_one_line(tmp_path):
    header = Path(compiled.__file__).with_name("working_memory.h")
    source = tmp_path / "take.c"
    take = "char take(size_t size) { volatile char *at = working_memory(size); *at = 1; return *at; }"
    source.write_text(f'#include "{header}"\n{take}\n')
    script = (
        "import ctypes; from pathlib import Path; from skipln_fairseq.nn.kernels.compiled import load; "
        f"take = load(Path({str(source)!r})).take; "
        "take(ctypes.c_size_t(1000)); print('enough', flush=True); take(ctypes.c_size_t(2**60))"
    )
    done = run("-c", script, succeeds=False)
    assert done.status == 1
    assert done.output.splitlines()[-2:] == [
        "enough",
        f"skipln_fairseq: error: no memory left for {2**60} bytes",
    ]
