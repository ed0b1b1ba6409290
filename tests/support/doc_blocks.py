"""The blocks of code in a page of the documentation.

A block is run unless a comment before it says why not: `<!-- no-run: needs a GPU -->`. A ```text block that follows one
is its output. What a page needs can be made by a hidden block of Python, `<!-- setup ... -->`.
"""

import re
from dataclasses import dataclass

_BLOCK = re.compile(
    r"^<!-- setup\n(?P<setup>.*?)^-->$"
    r"|(?:^<!-- no-run: (?P<reason>.+?) -->\n)?^```(?P<language>sh|python)\n(?P<code>.*?)^```$"
    r"(?:\n+^```text\n(?P<output>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block of a page."""

    language: str
    code: str
    line: int
    output: str | None = None
    reason: str | None = None
    """Why it is not run."""


def read_blocks(text: str) -> list[Block]:
    """Return the blocks of shell and Python code of a page, in order."""
    blocks = []
    for match in _BLOCK.finditer(text):
        line = text[: match.start()].count("\n") + 1
        if match["setup"] is not None:
            blocks.append(Block(language="python", code=match["setup"], line=line))
        else:
            blocks.append(
                Block(
                    language=match["language"],
                    code=match["code"],
                    line=line,
                    output=match["output"],
                    reason=match["reason"],
                )
            )
    return blocks
