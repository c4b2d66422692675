"""Makes certifi name the sidecar's bundle, in a Python program that is started with this file's folder in PYTHONPATH.

Python imports `sitecustomize` when it starts. Where requests is handed a prepared message it reads no variable for
certificates, and takes what `certifi.where()` names. A `sitecustomize` that Python would find without this one is run,
and this folder leaves `sys.path`, so that the program finds everything as it would without the sidecar.
"""

from __future__ import annotations

import os
import sys
from functools import wraps
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

TYPE_CHECKING = False  # importing typing would cost every start of the program
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_HERE = os.path.dirname(os.path.abspath(__file__))
_BUNDLE = os.path.join(os.path.dirname(_HERE), "bundle.pem")
_NAMES_THE_BUNDLE = "certifi.core"


class _Finder:
    """Finds certifi where the finders behind it do, and changes it when it has been loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module *name* as those find it; None for all but one."""
        if name != _NAMES_THE_BUNDLE or self not in sys.meta_path:
            return None
        behind = sys.meta_path[sys.meta_path.index(self) + 1 :]  # another one of these may stand before or behind
        others = (finder for finder in behind if hasattr(finder, "find_spec"))
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            _change_when_loaded(spec.loader)
        return spec


def _change_when_loaded(loader: object) -> None:
    load: Callable[[ModuleType], None] = loader.exec_module  # type: ignore[attr-defined]

    @wraps(load)
    def exec_module(module: ModuleType) -> None:
        load(module)
        if module.__name__ == _NAMES_THE_BUNDLE:
            _change(module)

    loader.exec_module = exec_module  # type: ignore[attr-defined]


def _change(module: ModuleType) -> None:
    """Let *module* name the bundle for as long as that is there."""
    where, contents = module.where, module.contents

    @wraps(where)
    def ours() -> str:
        return _BUNDLE if os.path.exists(_BUNDLE) else str(where())

    @wraps(contents)
    def text() -> str:
        if not os.path.exists(_BUNDLE):
            return str(contents())
        with open(_BUNDLE, encoding="ascii") as file:
            return file.read()

    module.where, module.contents = ours, text  # type: ignore[attr-defined]


def _run_the_next() -> None:
    """Run the `sitecustomize` that Python would have found without this one."""
    sys.path[:] = [entry for entry in sys.path if not entry or os.path.abspath(entry) != _HERE]
    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        module = sys.modules["sitecustomize"] = module_from_spec(spec)
        spec.loader.exec_module(module)


try:
    _run_the_next()
finally:
    sys.meta_path.insert(0, _Finder())
    for loaded in ("certifi.core", "certifi"):
        if loaded in sys.modules:
            _change(sys.modules[loaded])
