"""Rules for every text that the source shows to users; CONTRIBUTING.md states them."""

import ast
import re
from collections.abc import Iterator

from support.messages import SOURCE, Message, list_messages

PARTS = {
    "data/io/video.py": "reasons in the parentheses of the message that names the video",
    "networks/convolutionalize.py": "reasons behind the colon of `refuse`",
    "networks/geometry/receptive_field.py": "predicates of the operator that `Tracer` names",
    "networks/geometry/tracer.py": "predicates of the operator that `Tracer` names",
}
"""Files whose errors are parts of a message, and of which."""
TREES = {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text("utf-8")) for path in SOURCE.rglob("*.py")}
OWN_ERRORS = {"READ_ERRORS"} | {
    node.name for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
}
NO_MESSAGES = {
    "AttributeError": "of Python for a name that a module does not have",
    "DivergedError": "a problem, which the class completes",
    "ValueError": "caught where it is raised",
}
"""Classes of errors that are not shown as they are."""
SENTENCES = [
    message
    for message in list_messages()
    if message.kind in ("error", "warning", "finding", "fix")
    and not (message.kind == "error" and (message.file in PARTS or message.raised in NO_MESSAGES))
]
NAMES = r"[\w.]*[_.][\w{]+|\w+=|--?\w|[`'\"{(\d]"
"""Start of a message that begins with a name: of a key, an option, a file, an inserted value."""
VAGUE = r"(?<!or )\b(some|more|one|it correctly|properly)\.$"
MAX_LETTERS, MAX_WORDS = 420, 45
"""Limits of a message and of a sentence, without inserted values."""


def fill(text: str) -> str:
    """Replace inserted values by a word."""
    return re.sub(r"\{[^{}]*(\{[^{}]*\}[^{}]*)*\}", "VALUE", text)


def find(broken: object) -> list[str]:
    return [f"{message.place}: {message.text}" for message in SENTENCES if broken(message)]  # type: ignore[operator]


def find_raw_causes(tree: ast.Module) -> Iterator[int]:
    """Yield the lines where a text contains an error of Python, of the system or of a library as it is."""
    for handler in ast.walk(tree):
        if not isinstance(handler, ast.ExceptHandler) or handler.type is None or handler.name is None:
            continue
        caught = {ast.unparse(kind) for kind in getattr(handler.type, "elts", [handler.type])}
        if caught <= OWN_ERRORS:
            continue
        raw = rf"{handler.name}|.*\b(str|repr|type)\({handler.name}\).*|.*\b{handler.name}\.(strerror|args)\b.*"
        for text in ast.walk(handler):
            for part in text.values if isinstance(text, ast.JoinedStr) else ():
                if isinstance(part, ast.FormattedValue) and re.fullmatch(raw, ast.unparse(part.value)):
                    yield text.lineno


def test_a_message_begins_with_a_capital_letter_or_a_name() -> None:
    def is_wrong(message: Message) -> bool:
        first = re.split(r"[\s=]", message.text.lstrip())[0]
        return not (re.match(r"[A-Z]", first) or re.match(NAMES, message.text.lstrip()) or first in message.names)

    assert find(is_wrong) == []


def test_a_message_ends_with_a_period_or_with_lines_to_paste() -> None:
    assert find(lambda m: not m.text.endswith((".", "}")) and "\n" not in m.text) == []


def test_a_fix_is_a_sentence_of_its_own() -> None:
    assert find(lambda m: ";" in fill(m.text)) == []


def test_a_fix_says_what_to_do() -> None:
    assert find(lambda m: re.search(VAGUE, m.text)) == []


def test_messages_are_short() -> None:
    assert find(lambda m: len(fill(m.text)) > MAX_LETTERS) == []
    assert find(lambda m: any(len(part.split()) > MAX_WORDS for part in re.split(r"[.:]\s", fill(m.text)))) == []


def test_no_message_sends_readers_to_a_dataset_yaml_that_may_not_exist() -> None:
    assert find(lambda m: re.search(r"(into|in) dataset\.yaml(?! \(create it if there is none\))", m.text)) == []


def test_no_message_repeats_the_words_of_python() -> None:
    assert {file: lines for file, tree in TREES.items() if (lines := list(find_raw_causes(tree)))} == {}


def test_raw_causes_are_found() -> None:
    raw = "try: f()\nexcept OSError as e: print(f'no: {e}', f'{e.strerror}', f'{describe_cause(e)}', e)"
    assert list(find_raw_causes(ast.parse(raw))) == [2, 2]
    assert list(find_raw_causes(ast.parse(raw.replace("OSError", "DataError")))) == []
