import pytest
import torch
from torch import Tensor, nn

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks import Segmenter


class Probe(nn.Module):
    """Returns its input and remembers it."""

    def __init__(self, size_multiple: int) -> None:
        super().__init__()
        self.size_multiple = size_multiple
        self.seen = torch.zeros(0)

    def forward(self, images: Tensor) -> Tensor:
        self.seen = images
        return images


def test_normalizes_in_raw_units():
    segmenter = Segmenter(Probe(1), mean=[100.0, 1000.0], std=[10.0, 500.0])
    images = torch.tensor([110, 2000], dtype=torch.int32).view(1, 2, 1, 1)
    torch.testing.assert_close(segmenter(images).flatten(), torch.tensor([1.0, 2.0]))


def test_pads_bottom_and_right_by_replication_and_crops():
    probe = Probe(4)
    segmenter = Segmenter(probe, mean=[0.0], std=[1.0])
    image = torch.arange(15.0).view(1, 1, 3, 5)
    torch.testing.assert_close(segmenter(image), image)
    assert probe.seen.shape == (1, 1, 4, 8)
    torch.testing.assert_close(probe.seen[0, 0, :, 5:], probe.seen[0, 0, :, 4:5].expand(4, 3))
    torch.testing.assert_close(probe.seen[0, 0, 3], probe.seen[0, 0, 2])


def test_does_not_pad_legal_sizes():
    probe = Probe(4)
    Segmenter(probe, mean=[0.0], std=[1.0])(torch.zeros(1, 1, 8, 4))
    assert probe.seen.shape == (1, 1, 8, 4)


def test_statistics_are_saved_with_the_weights():
    state = Segmenter(Probe(1), mean=[1.0], std=[2.0]).state_dict()
    assert state["mean"].item() == 1
    assert state["std"].item() == 2


@pytest.mark.parametrize(("mean", "std"), [([0.0], [0.0]), ([0.0, 1.0], [1.0])])
def test_invalid_statistics_raise(mean, std):
    with pytest.raises(InvalidArgumentError, match="one value per channel"):
        Segmenter(Probe(1), mean=mean, std=std)
