"""Choosable skip connections and norms: modules in pure torch (:mod:`.nn`), and a plugin of fairseq (:mod:`.plugin`).

Importing the package alone imports neither torch nor fairseq. The plugin is loaded where fairseq is in use: by
``--user-dir``, by each package that needs fairseq, and in a script that imports both, in whichever order.
"""

from importlib import import_module
from typing import Any

from .common.imports import once_imported
from .version import __version__

__all__ = ["__version__", "criterions", "decoding", "images", "models"]

once_imported("fairseq", f"{__name__}.plugin")


def __getattr__(name: str) -> Any:
    """A package of the plugin, imported when it is asked for."""
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
