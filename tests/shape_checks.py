"""Array shapes are checked while tests run: of the functions of a module and the methods of its classes.

A function that another one makes goes unchecked. It is made anew by every call, and making its check takes longer than
most calls do: more than half of the time of tests of splitting went into compiling such checks.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from beartype import beartype  # noqa: F401 - which the hook takes from here, so that its files of bytecode are its own
from jaxtyping import _import_hook, install_import_hook


class _Outermost(_import_hook.JaxtypingTransformer):
    """Decorates functions, but none in their bodies."""

    def generic_visit(self, node: ast.AST) -> None:
        if not isinstance(node, ast.FunctionDef):
            super().generic_visit(node)


def install(packages: Sequence[str]) -> None:
    """Check the modules of these packages, which are not imported yet, for the rest of the process."""
    _import_hook.JaxtypingTransformer = _Outermost
    install_import_hook(packages, "shape_checks.beartype")
