"""The docstrings under the fields of a dataclass, read from its source."""

import ast
import inspect
import textwrap
from dataclasses import is_dataclass


def field_docs(config_class: type) -> dict[str, str]:
    """Return field -> its docstring on one line, inherited fields included.

    A class whose source is not at hand, such as one made at run time, has none.
    """
    docs: dict[str, str] = {}
    for owner in reversed(config_class.__mro__):
        if is_dataclass(owner):
            docs |= _own_docs(owner)
    return docs


def _own_docs(config_class: type) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(config_class))
    except (OSError, TypeError):
        return {}
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match following:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    docs[statement.target.id] = " ".join(text.split())
    return docs
