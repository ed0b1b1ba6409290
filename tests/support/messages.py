"""All texts in the source that users can read: errors, findings and fixes, log lines, progress, and their parts.

Print the list:

    python tests/support/messages.py
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SOURCE = Path(__file__).parents[2] / "src" / "pixelwise"

Kind = Literal["error", "warning", "info", "label", "finding", "fix", "part"]
"""`label` names a progress bar; `part` is any other text of several words, most of which are inserted into messages."""

_LOGS: dict[str, Kind] = {"warning": "warning", "error": "warning", "info": "info", "debug": "info"}
_FINDINGS: dict[str, tuple[tuple[str, int, Kind], ...]] = {
    "make_finding": (("message", 2, "finding"), ("fix", 3, "fix")),
    "report_files": (("problem", 3, "part"), ("fix", 4, "fix")),
}
"""Function → name, position and kind of its arguments that users read."""
_HELP = ("Option", "Argument")
"""Calls whose texts are the help of commands, which has rules of its own."""


@dataclass(frozen=True, slots=True)
class Message:
    """A text in the source, with `{expression}` for what is inserted."""

    kind: Kind
    text: str
    file: str
    line: int
    function: str
    names: frozenset[str]
    """Names of variables in the function: a message may begin with one."""
    raised: str = ""
    """Name of the class of an error."""

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line} {self.function}"


def list_messages() -> list[Message]:
    """Return all texts in the order of files and lines."""
    return [message for path in sorted(SOURCE.rglob("*.py")) for message in _Collector(path).collect()]


class _Collector(ast.NodeVisitor):
    """The messages of one file."""

    def __init__(self, path: Path) -> None:
        self.file = path.relative_to(SOURCE).as_posix()
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.functions: list[ast.FunctionDef] = []
        self.messages: list[Message] = []
        self.seen: set[ast.expr] = set()

    def collect(self) -> list[Message]:
        self.visit(self.tree)
        for node in ast.walk(self.tree):  # documentation is not a message
            if isinstance(node, ast.Expr):
                self.seen.add(node.value)
        self.functions = []
        _PartFinder(self).visit(self.tree)
        return sorted(self.messages, key=lambda message: message.line)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.functions.append(node)
        self.generic_visit(node)
        self.functions.pop()

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        if name.endswith("Error") and node.args:
            self.add("error", node.args[0], name)
        elif owner == "logger" and name in _LOGS:
            self.add(_LOGS[name], node.args[0])
        elif name == "report_progress":
            self.add("label", node.args[0])
        elif name in _HELP:
            self.seen.update(part for part in ast.walk(node) if isinstance(part, ast.expr))
        for argument, position, kind in _FINDINGS.get(name, ()):
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            value = given.get(argument) or (node.args[position] if len(node.args) > position else None)
            if value is not None:
                self.add(kind, value)
        self.generic_visit(node)

    def add(self, kind: Kind, node: ast.expr, raised: str = "") -> None:
        """Add the texts that an expression, or the variable that it names, can be."""
        if isinstance(node, ast.Name) and (values := list(self._find_values(node.id))):
            for value in values:
                self.add(kind, value, raised)
            return
        if node in self.seen:
            return
        self.seen.update(part for part in ast.walk(node) if isinstance(part, ast.Constant | ast.JoinedStr | ast.BinOp))
        names = {part.id for f in self.functions for part in ast.walk(f) if isinstance(part, ast.Name)}
        names |= {part.attr for f in self.functions for part in ast.walk(f) if isinstance(part, ast.Attribute)}
        names |= {part.arg for f in self.functions for part in ast.walk(f) if isinstance(part, ast.arg)}
        function = ".".join(f.name for f in self.functions)
        for text in _read_texts(node):
            self.messages.append(Message(kind, text, self.file, node.lineno, function, frozenset(names), raised))

    def _find_values(self, name: str) -> Iterator[ast.expr]:
        """Yield what the innermost function assigns to a variable."""
        for node in ast.walk(self.functions[-1]) if self.functions else ():
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name) and target.id == name:
                        yield node.value
                    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                        pairs = zip(target.elts, node.value.elts, strict=True)
                        yield from (value for own, value in pairs if isinstance(own, ast.Name) and own.id == name)


class _PartFinder(ast.NodeVisitor):
    """Adds the texts of several words that no other kind covers."""

    def __init__(self, collector: _Collector) -> None:
        self.collector = collector

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.collector.functions.append(node)
        self.generic_visit(node)
        self.collector.functions.pop()

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.Constant | ast.JoinedStr) and node not in self.collector.seen:
            text = next(_read_texts(node))
            words = text.split()
            if len(words) > 2 and not isinstance(getattr(node, "value", ""), bytes):
                self.collector.add("part", node)
            return
        super().generic_visit(node)


def _read_texts(node: ast.expr) -> Iterator[str]:
    """Yield the texts that an expression can be, with `{expression}` for inserted values."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=values):
            yield "".join(
                str(v.value) if isinstance(v, ast.Constant) else f"{{{ast.unparse(v.value)}}}"  # type: ignore[attr-defined]
                for v in values
            )
        case ast.BinOp(left=left, right=right, op=ast.Add()):
            yield from (start + end for start in _read_texts(left) for end in _read_texts(right))
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*_read_texts(body), *_read_texts(orelse))
        case _:
            yield f"{{{ast.unparse(node)}}}"


if __name__ == "__main__":
    for message in list_messages():
        print(f"{message.kind:8} {message.place}\n    {message.text}")
