"""Matrix tiles where the processor has none: the decoder's kernel compiled with tiles in plain C."""

from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from skipln_fairseq.nn.kernels import compiled
from skipln_fairseq.nn.kernels.decode import has_tiles, library

HEADER = Path(__file__).with_suffix(".h")


@contextmanager
def tiles_or_their_like(folder):
    """Have tiles; what is compiled for that is kept in the folder."""
    if has_tiles():
        yield
        return
    caches = (has_tiles, library.source, compiled.load)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setattr(compiled, "FLAGS", (*compiled.FLAGS, "-include", str(HEADER)))
        for name in ("_is_amx_tile_supported", "_init_amx"):
            patch.setattr(torch.cpu, name, lambda: True)
        for one in caches:
            one.cache_clear()
        assert has_tiles()
        yield
    for one in caches:
        one.cache_clear()
