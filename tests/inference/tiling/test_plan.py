import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelwise.inference.tiling.plan import TileSpan, choose_tile_size, plan_spans, plan_tiles
from pixelwise.networks.geometry import NetworkGeometry
from pixelwise.networks.geometry.receptive_field import ReceptiveField

PADDED = ReceptiveField(8, tuple((-8, 15) for _ in range(8)))
UNPADDED = ReceptiveField(4, tuple((phase, phase + 20) for phase in range(4)))


def field(axis: ReceptiveField, *, minimum: int, multiple: int, lost: int = 0) -> NetworkGeometry:
    return NetworkGeometry(
        rows=axis,
        columns=axis,
        is_local=True,
        global_ops=(),
        min_size=minimum,
        size_multiple=multiple,
        output_sizes=tuple(
            (side - lost, side - lost) for side in range(minimum, minimum + math.lcm(axis.stride, multiple), multiple)
        ),
    )


SAME = field(PADDED, minimum=8, multiple=8)
VALID = field(UNPADDED, minimum=24, multiple=4, lost=20)
ANY = field(ReceptiveField(2, ((-3, 4), (-2, 5))), minimum=1, multiple=1)
FIELDS = {"same": SAME, "valid": VALID, "any size": ANY}


def spans(*ranges: tuple[int, int, int, int]) -> tuple[TileSpan, ...]:
    return tuple(TileSpan(write=slice(a, b), read=slice(c, d)) for a, b, c, d in ranges)


def test_docstring_example() -> None:
    assert plan_spans(SAME, 0, 24, 24, 8) == spans((0, 8, 0, 16), (8, 16, 0, 24), (16, 24, 8, 24))


def test_tiles_of_an_unpadded_network_read_its_size_loss() -> None:
    assert plan_spans(VALID, 0, 10, 32, 4) == spans((0, 4, 0, 24), (4, 8, 4, 28), (8, 10, 8, 32))
    assert [span.keep for span in plan_spans(VALID, 0, 10, 32, 4)] == [slice(0, 4), slice(0, 4), slice(0, 2)]


def test_an_image_smaller_than_a_tile_is_one_tile() -> None:
    assert plan_spans(SAME, 1, 3, 8, 100) == spans((0, 3, 0, 8))


@given(name=st.sampled_from(sorted(FIELDS)), side=st.integers(1, 200), tile=st.integers(1, 64))
def test_every_row_is_written_once_with_its_receptive_field(name: str, side: int, tile: int) -> None:
    geometry = FIELDS[name]
    framed = geometry.compute_input_size((side, side))[0]
    plan = plan_spans(geometry, 0, side, framed, tile)
    assert [row for span in plan for row in range(side)[span.write]] == list(range(side))
    for span in plan:
        first, last = geometry.rows.get_range(span.write.start, span.write.stop)
        assert span.read.start <= max(first, 0)
        assert min(last, framed) <= span.read.stop <= framed
        assert span.read.start % geometry.rows.stride == 0
        seen = (span.read.stop - span.read.start,) * 2
        assert geometry.compute_legal_size(seen) == seen
        assert span.keep.stop <= geometry.compute_output_size(seen)[0]


@given(
    name=st.sampled_from(sorted(FIELDS)),
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    max_pixels=st.integers(1200, 100_000),
)
def test_chosen_tiles_read_at_most_max_pixels(name: str, size: tuple[int, int], max_pixels: int) -> None:
    geometry = FIELDS[name]
    framed = geometry.compute_input_size(size)
    plan = plan_tiles(geometry, size, framed, choose_tile_size(geometry, size, framed, max_pixels))
    height, width = plan.max_input_size
    assert height * width <= max_pixels


def test_smallest_tile_is_chosen_if_none_fits() -> None:
    assert choose_tile_size(SAME, (64, 64), (64, 64), 10) == (8, 8)


@pytest.mark.parametrize("size", [(64, 640), (640, 64), (400, 400)])
def test_no_other_tile_size_reads_fewer_pixels(size: tuple[int, int]) -> None:
    chosen = plan_tiles(SAME, size, size, choose_tile_size(SAME, size, size, 6000)).num_input_pixels
    for rows in range(8, size[0] + 1, 8):
        for columns in range(8, size[1] + 1, 8):
            plan = plan_tiles(SAME, size, size, (rows, columns))
            if math.prod(plan.max_input_size) <= 6000:
                assert plan.num_input_pixels >= 0.9 * chosen


def test_plan_iterates_row_by_row() -> None:
    tiles = list(plan_tiles(SAME, (16, 24), (16, 24), (8, 16)))
    assert [tile.write for tile in tiles] == [
        (slice(0, 8), slice(0, 16)),
        (slice(0, 8), slice(16, 24)),
        (slice(8, 16), slice(0, 16)),
        (slice(8, 16), slice(16, 24)),
    ]
    assert tiles[1].keep == (slice(0, 8), slice(8, 16))
