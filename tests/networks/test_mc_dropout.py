import pytest
import torch
from torch import Tensor, nn

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.segmenter import Segmenter
from pixelwise.networks.segnet import SegNet, enable_dropout_only, sample_predictions


class Passes(nn.Module):
    """A network that returns the given logits, one pass after the other."""

    def __init__(self, *passes: Tensor) -> None:
        super().__init__()
        self.passes = iter(passes)

    def forward(self, images: Tensor) -> Tensor:
        return next(self.passes)


def segnet(dropout: float) -> Segmenter:
    torch.manual_seed(0)
    network = SegNet(3, 4, channels=(4, 6, 8), depths=(1, 1, 1), dropout=dropout)
    return Segmenter(network, mean=[128.0] * 3, std=[64.0] * 3)


IMAGES = torch.rand(2, 3, 21, 30, generator=torch.Generator().manual_seed(0)) * 255


def test_mean_of_the_softmax_and_variance_by_hand():
    """Probabilities (3/4, 1/4) and (1/4, 3/4): mean 1/2, variance 1/16 in both classes."""
    logits = torch.tensor([3.0, 1.0]).log().view(1, 2, 1, 1)
    mean, variance = sample_predictions(Passes(logits, logits.flip(1)), torch.zeros(1, 1, 1, 1), 2)
    torch.testing.assert_close(mean, torch.full((1, 2, 1, 1), 0.5))
    torch.testing.assert_close(variance, torch.full((1, 1, 1), 1 / 16))


def test_mean_and_variance_over_all_samples():
    passes = torch.randn(7, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    mean, variance = sample_predictions(Passes(*passes), torch.zeros(0), 7)
    torch.testing.assert_close(mean, passes.softmax(2).mean(0))
    torch.testing.assert_close(variance, passes.softmax(2).var(0, correction=0).mean(1))


def test_varies_with_dropout():
    mean, variance = sample_predictions(segnet(0.5), IMAGES, 5)
    assert mean.shape == (2, 4, 21, 30)
    assert variance.shape == (2, 21, 30)
    assert (variance > 0).float().mean() > 0.99
    torch.testing.assert_close(mean.sum(1), torch.ones(2, 21, 30))
    assert not mean.requires_grad


def test_does_not_vary_without_dropout():
    network = segnet(0.0)
    mean, variance = sample_predictions(network, IMAGES, 5)
    assert (variance == 0).all()
    torch.testing.assert_close(mean, network.eval()(IMAGES).softmax(1))


def test_one_sample_has_no_variance():
    assert (sample_predictions(segnet(0.5), IMAGES, 1)[1] == 0).all()


@pytest.mark.parametrize("training", [True, False])
def test_batch_normalization_stays_in_evaluation_and_modes_are_restored(training):
    network = segnet(0.5).train(training)
    network.network.decoder.train(not training)
    modes = [module.training for module in network.modules()]
    statistics = {name: t.clone() for name, t in network.named_buffers()}
    sample_predictions(network, IMAGES, 2)
    torch.testing.assert_close(dict(network.named_buffers()), statistics)
    assert [module.training for module in network.modules()] == modes


def test_modes_are_restored_after_an_error():
    network = segnet(0.5)
    with pytest.raises(InvalidArgumentError, match="this SegNet has in_channels=3"):
        sample_predictions(network.network, torch.zeros(1, 7, 8, 8), 2)
    assert all(module.training for module in network.modules())


def test_only_dropout_is_in_training_mode():
    network = segnet(0.5).eval()
    with enable_dropout_only(network):
        assert {type(module) for module in network.modules() if module.training} == {nn.Dropout}


def test_zero_samples_raise():
    with pytest.raises(InvalidArgumentError, match="samples is 0, but must be >= 1"):
        sample_predictions(segnet(0.5), IMAGES, 0)
