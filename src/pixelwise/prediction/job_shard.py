"""`predict --shard`: the share of one process in a job that several do, each for itself."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pixelwise.errors import InvalidArgumentError

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Shard:
    """The `number`th of `count` shares, counted from 1."""

    number: int
    count: int

    def of(self, items: Sequence[Item]) -> list[Item]:
        """Every `count`th item: neighbors, which often are of one size, are shared out evenly.

        Shard(2, 3) of a b c d e f g is b e. All shards together have each item once.
        """
        return list(items[self.number - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse_shard(text: str) -> Shard:
    """`2/8` → the second of eight. InvalidArgumentError for anything else than i/n with 1 <= i <= n."""
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    shard = Shard(int(found[1]), int(found[2])) if found else Shard(0, 0)
    if not 1 <= shard.number <= shard.count:
        raise InvalidArgumentError(
            f"--shard is {text!r}, but must be i/n with i from 1 to n, such as 2/8 for the second of eight jobs."
        )
    return shard
