import torch
from torch import Tensor, nn

from pixelwise.inference.tiling.peak_memory import peak_bytes

SIZE = (10, 20)
MAP = 4 * 10 * 20  # bytes of one channel in float32


class Stack(nn.Module):
    """Four channels, eight of them, two of those; the four are kept to the end with a skip."""

    def __init__(self, *, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        self.layers = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in ((3, 4), (4, 8), (8, 4)))

    def forward(self, images: Tensor) -> Tensor:
        x = kept = self.layers[0](images)
        x = self.layers[1](x)
        if not self.skip:
            del kept
        x = self.layers[2](x)
        return x + kept if self.skip else x


def test_what_lives_at_once_is_counted_and_what_is_freed_is_not() -> None:
    with torch.device("meta"):
        plain, skipping = Stack(skip=False), Stack(skip=True)
    assert peak_bytes(plain, SIZE, channels=3) == (3 + 4 + 8) * MAP
    assert peak_bytes(skipping, SIZE, channels=3) == (3 + 4 + 8 + 4) * MAP


def test_views_and_work_in_place_take_nothing() -> None:
    network = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Unflatten(1, (3, *SIZE)))
    assert peak_bytes(network, SIZE, channels=3) == 3 * MAP
