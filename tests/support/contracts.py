"""Checks for every network, which the test file of each network runs."""

import torch
from torch import nn
from torch.nn import functional


def assert_any_size(segmenter: nn.Module, channels: int, num_classes: int) -> None:
    """Check that the logits have the size of the image, down to a single pixel."""
    segmenter.eval()
    for height, width in [(1, 1), (7, 61), (45, 33), (64, 64)]:
        images = torch.randint(0, 256, (2, channels, height, width), dtype=torch.uint8)
        with torch.no_grad():
            logits = segmenter(images)
        assert logits.shape == (2, num_classes, height, width)
        assert logits.dtype == torch.float32


def assert_every_parameter_learns(segmenter: nn.Module, channels: int, num_classes: int) -> None:
    """Check that one step of SGD changes every parameter."""
    segmenter.train()
    images = torch.rand(2, channels, 64, 64) * 255
    labels = torch.randint(0, num_classes, (2, 64, 64))
    before = {name: p.detach().clone() for name, p in segmenter.named_parameters()}
    optimizer = torch.optim.SGD(segmenter.parameters(), lr=0.1)
    functional.cross_entropy(segmenter(images), labels).backward()
    optimizer.step()
    unchanged = [name for name, p in segmenter.named_parameters() if torch.equal(p, before[name])]
    assert not unchanged


def assert_overfits_four_images(segmenter: nn.Module, channels: int) -> None:
    """Check that training on four images of a bright disk fits them."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    centers = torch.randint(8, 24, (4, 2), generator=generator)
    labels = torch.stack([((y - cy) ** 2 + (x - cx) ** 2 < 36).long() for cy, cx in centers.tolist()])
    noise = torch.rand(4, channels, 32, 32, generator=generator)
    images = (0.5 * noise + 0.5 * labels[:, None]) * 255
    optimizer = torch.optim.AdamW(segmenter.parameters(), lr=1e-2)
    segmenter.train()
    for _ in range(80):
        optimizer.zero_grad()
        loss = functional.cross_entropy(segmenter(images), labels)
        loss.backward()
        optimizer.step()
    assert (segmenter(images).argmax(1) == labels).float().mean() > 0.98


def assert_compiles_and_exports(segmenter: nn.Module, channels: int) -> None:
    """Check that `torch.compile` with aot_eager and `torch.export` give equal logits."""
    segmenter.eval()
    images = torch.rand(1, channels, 64, 48) * 255
    with torch.no_grad():
        expected = segmenter(images)
        compiled = torch.compile(segmenter, backend="aot_eager")(images)
        exported = torch.export.export(segmenter, (images,)).module()(images)
    torch.testing.assert_close(compiled, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(exported, expected, rtol=1e-4, atol=1e-4)
