"""``--isa``: what processes believe that the processor has."""

import json
import os
import subprocess
import sys

import pytest
import torch

from skipln_fairseq.bench import isa
from skipln_fairseq.bench.isa import VALUES, VARIABLES, emulate
from skipln_fairseq.bench.render import header
from skipln_fairseq.common.errors import UserError
from skipln_fairseq.nn.kernels.decode import kind

BELIEVED = {
    "avx512": ("AVX512", "avx512-vnni"),
    "avx2": ("AVX2", "avx2"),
    "portable": ("DEFAULT", "portable"),
}
TOLD = """
import json, torch
from skipln_fairseq.nn.kernels.decode import kind
print(json.dumps([torch.backends.cpu.get_cpu_capability(), kind()]))
"""


@pytest.fixture
def environment(monkeypatch):
    """As it was, afterwards."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.skipif(kind() is None, reason="no C compiler")
@pytest.mark.parametrize("name", VALUES)
def test_processes_believe_it(name, environment):
    try:
        emulate(name)
    except UserError as error:
        pytest.skip(str(error))
    command = [sys.executable, "-c", TOLD]
    told = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert tuple(json.loads(told.splitlines()[-1])) == BELIEVED[name]


def test_the_processor_as_it_is_needs_nothing(environment):
    emulate("native")
    assert not set(VARIABLES) & set(os.environ)


def test_what_cannot_be_emulated_is_one_line(environment, monkeypatch):
    with pytest.raises(UserError, match="--isa sse: valid are native, avx512, avx2, portable"):
        emulate("sse")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    with pytest.raises(UserError, match="--isa avx512: this processor has AVX2 only"):
        emulate("avx512")
    monkeypatch.setattr(isa.platform, "machine", lambda: "aarch64")
    with pytest.raises(UserError, match="--isa portable: only an x86-64 processor"):
        emulate("portable")
    assert not set(VARIABLES) & set(os.environ)
    assert set(isa.NEEDED) == set(VALUES)


@pytest.mark.parametrize(
    ("name", "part"), [("avx2", "x86; as if it had avx2 at most; 1"), ("native", "x86; 1")]
)
def test_a_report_says_it(name, part):
    where = {"device": "x86", "torch": "2", "date": "today"}
    report = {
        "command": "",
        "kind": "decoding",
        "settings": {"seed": 1, "threads": 1, "isa": name},
        "where": where,
    }
    assert part in header(report)
