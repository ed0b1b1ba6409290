"""Test the compiled kernel of the soft confusion matrix against the same sums in float64."""

import pytest
import torch
from torch import Tensor

from pixelwise.losses import cross_entropy, cross_entropy_and_dice, soft_confusion
from pixelwise.ops.kernels import cpu

pytestmark = pytest.mark.skipif(cpu.load_library() is None, reason="the compiled kernels were not built")
LAYOUTS = (torch.contiguous_format, torch.channels_last)


def draw(
    shape: tuple[int, int, int, int], dtype: torch.dtype = torch.float32, layout: torch.memory_format = LAYOUTS[0]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, classes and weights, a third of which are 0."""
    generator = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(shape, generator=generator)).to(dtype).contiguous(memory_format=layout)
    pixels = (shape[0], 1, *shape[2:])
    weights = (3 * torch.rand(pixels, generator=generator) - 1).clamp(min=0)
    return logits, torch.randint(shape[1], pixels, generator=generator), weights


def evaluate(logits: Tensor, classes: Tensor, weights: Tensor, gamma: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return the four sums, and the gradient of a random combination of them."""
    logits = logits.detach().requires_grad_()
    sums = torch.stack(soft_confusion._SoftConfusionFunction.apply(logits, classes, weights, gamma))
    combination = torch.randn(sums.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((sums * combination.to(sums.dtype)).sum(), logits)
    return sums.detach(), gradient


@pytest.mark.parametrize(
    "shape", [(2, 11, 67, 61), (2, 2, 9, 20), (1, 1, 3, 5), (3, 2, 1, 1), (1, 300, 9, 8), (2, 3, 0, 4)]
)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_equals_the_sums_in_float64(
    shape: tuple[int, int, int, int], layout: torch.memory_format, dtype: torch.dtype, gamma: float
) -> None:
    logits, classes, weights = draw(shape, dtype, layout)
    sums, gradient = evaluate(logits, classes, weights, gamma)
    expected_sums, expected_gradient = evaluate(logits.double(), classes, weights.double(), gamma)
    assert gradient.dtype == dtype
    assert gradient.stride() == logits.stride()
    torch.testing.assert_close(sums.double(), expected_sums, rtol=1e-5, atol=1e-5)
    rounding = {torch.float32: 1e-5, torch.bfloat16: 2**-8, torch.float16: 2**-11}[dtype]
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=rounding, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_extreme_logits(layout: torch.memory_format) -> None:
    logits, classes, weights = draw((1, 3, 8, 9), layout=layout)
    extremes = [[1e30, -1e30, 0.0], [-200.0, 90.0, -torch.inf], [torch.nan, 0.0, 0.0], [0.0, torch.inf, 0.0]]
    for given in (extremes[:2], extremes[:1] + extremes[2:], [[-torch.inf] * 3], [[0.0, 0.0, -torch.inf]]):
        logits[0, :, 0, : len(given)] = torch.tensor(given).T
        classes[0, 0, 0] = torch.tensor([0, 1, 2] * 3)
        weights[0, 0, 0] = 1.0
        results = evaluate(logits, classes, weights)
        expected = evaluate(logits.double(), classes, weights.double())
        for result, other in zip(results, expected, strict=True):
            torch.testing.assert_close(result.double(), other, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_certain_pixels_have_no_loss_and_no_gradient() -> None:
    logits, classes, weights = draw((1, 3, 8, 9))
    sums, gradient = evaluate(logits.zero_().scatter_(1, classes, 200.0), classes, weights, 2.0)
    assert torch.equal(sums[0], torch.zeros(3))
    sums = soft_confusion._SoftConfusionFunction.apply(logits.requires_grad_(), classes, weights, 0.0)
    (gradient,) = torch.autograd.grad(sums[0].sum(), logits)
    assert torch.equal(gradient, torch.zeros_like(logits))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_and_memory_format_change_nothing(dtype: torch.dtype) -> None:
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results += [evaluate(*draw((2, 5, 80, 91), dtype, layout), 2.0) for layout in LAYOUTS]
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


def test_views_that_are_not_dense() -> None:
    logits, classes, weights = draw((2, 5, 20, 31))
    inputs = tuple(part[:, :, 3:17, 2:29] for part in (logits, classes, weights))
    expected = evaluate(*(part.contiguous() for part in inputs))
    assert all(map(torch.equal, evaluate(*inputs), expected))


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_plain_pytorch_gives_the_same(gamma: float, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = draw((2, 5, 20, 31), layout=torch.channels_last)
    expected = evaluate(*inputs, gamma)
    monkeypatch.setattr(cpu, "load_library", lambda: None)
    for result, other in zip(evaluate(*inputs, gamma), expected, strict=True):
        torch.testing.assert_close(result, other, rtol=1e-5, atol=1e-6)


def compute_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy_and_dice(logits, labels, ignore_index=255)


def test_graphs_and_transforms_take_plain_pytorch() -> None:
    logits, classes, _ = draw((2, 3, 6, 5))
    labels, expected = classes[:, 0], torch.func.grad(compute_loss)(logits, classes[:, 0])
    logits.requires_grad_()
    compiled = torch.compile(compute_loss, backend="aot_eager", fullgraph=True)
    for function in (compute_loss, compiled):
        (gradient,) = torch.autograd.grad(function(logits, labels), logits)
        torch.testing.assert_close(gradient, expected)
    _, tangent = torch.func.jvp(lambda x: compute_loss(x, labels), (logits.detach(),), (torch.ones_like(logits),))
    torch.testing.assert_close(tangent.float(), expected.sum(), atol=1e-6, rtol=1e-5)
    each = torch.vmap(lambda x, y: cross_entropy(x[None], y[None], ignore_index=255))(logits, labels)
    torch.testing.assert_close(each.mean(), cross_entropy(logits, labels, ignore_index=255))
