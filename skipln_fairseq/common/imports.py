"""What is imported once another package is."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

__all__ = ["once_imported"]


def once_imported(package: str, module: str) -> None:
    """Import ``module`` as soon as a top-level ``package`` is imported: now, if it is already.

    Where the package is not installed nothing is done.
    """
    if sys.modules.get(package) is not None:
        import_module(module)
    elif find_spec(package) is not None:
        sys.meta_path.insert(0, _Waiting(package, module))


class _Waiting:
    """Finds the package as all others do, and has its loader import the module too.

    Who only asks whether there is such a package loads nothing, so the waiting goes on.
    """

    def __init__(self, package: str, module: str):
        self.package = package
        self.module = module

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self.package:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(package: ModuleType) -> None:
            sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
            execute(package)
            import_module(self.module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign, assignment]
        return spec
