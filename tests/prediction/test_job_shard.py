import pytest

from pixelwise.errors import InvalidArgumentError
from pixelwise.prediction.job_shard import Shard, parse_shard


@pytest.mark.parametrize(("text", "shard"), [("1/1", Shard(1, 1)), ("2/8", Shard(2, 8)), (" 12/12 ", Shard(12, 12))])
def test_a_share_is_named_by_number_and_count(text: str, shard: Shard) -> None:
    assert parse_shard(text) == shard
    assert str(shard) == text.strip()


@pytest.mark.parametrize("text", ["0/8", "9/8", "0/0", "3", "1/2/3", "-1/4", "a/b", ""])
def test_any_other_words_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"--shard is '{text}', but must be i/n with i from 1 to n"):
        parse_shard(text)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10])
def test_all_shares_together_have_each_item_once(count: int) -> None:
    items = list("abcdefg")
    shares = [Shard(number, count).of(items) for number in range(1, count + 1)]
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_neighbors_go_into_different_shares() -> None:
    assert Shard(2, 3).of("abcdefg") == ["b", "e"]
