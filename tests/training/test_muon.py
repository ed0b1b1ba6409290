import pytest
import torch
from torch import Tensor

from pixelwise.config import OptimizerConfig
from pixelwise.training import muon
from pixelwise.training.muon import COEFFICIENTS, STEPS, STRIP_ROWS, Muon, orthogonalize, orthogonalize_kernels


@pytest.mark.parametrize("shape", [(8, 8), (8, 32), (32, 8), (1, 9), (9, 1)])
def test_orthogonalize_makes_singular_values_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape) + 0.5
    made = orthogonalize(matrix)
    assert made.shape == matrix.shape
    assert made.dtype == matrix.dtype
    values = torch.linalg.svdvals(made)
    assert values.min() > 0.3
    assert values.max() < 1.4


def test_orthogonalize_keeps_the_singular_vectors() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(6, 10)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ orthogonalize(matrix) @ vh.T
    off = inner - torch.diag(torch.diagonal(inner))
    assert off.abs().max() < 1e-3


def test_orthogonalize_of_zeros_is_zeros() -> None:
    assert torch.equal(orthogonalize(torch.zeros(3, 4)), torch.zeros(3, 4))


def stepwise(matrix: Tensor) -> Tensor:
    """The steps as the paper writes them, on the matrix itself."""
    a, b, c = COEFFICIENTS
    x = matrix / (matrix.norm() + 1e-7)
    for _ in range(STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def with_singular_values(values: Tensor, columns: int) -> Tensor:
    left, _ = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(columns, len(values), dtype=torch.float64))
    return (left * values) @ right.T


@pytest.mark.parametrize("shape", [(8, 8), (8, 32), (1, 9), (48, 432), (STRIP_ROWS + 1, 2 * STRIP_ROWS)])
def test_steps_on_the_product_are_steps_on_the_matrix(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(orthogonalize(matrix), stepwise(matrix), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(orthogonalize(matrix.T), stepwise(matrix).T, rtol=1e-9, atol=1e-9)


def test_five_steps_in_float32_need_no_second_product() -> None:
    torch.manual_seed(0)
    matrix = with_singular_values(torch.logspace(0, -6, 64, dtype=torch.float64), 576)
    torch.testing.assert_close(orthogonalize(matrix.float()).double(), stepwise(matrix), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(4, 6, 3, 3), (9, 2, 2, 2), (5, 7)])
@pytest.mark.parametrize("count", [1, 3])
def test_kernels_of_one_shape_are_orthogonalized_one_by_one(shape: tuple[int, ...], count: int) -> None:
    torch.manual_seed(0)
    kernels = [torch.randn(shape) for _ in range(count)]
    scale = max(1.0, shape[0] ** 2 / kernels[0].numel()) ** 0.5
    expected = [scale * stepwise_of_any_shape(kernel.flatten(1)).view(shape) for kernel in kernels]
    layouts = (torch.contiguous_format, torch.channels_last) if len(shape) == 4 else (torch.contiguous_format,)
    for layout in layouts:
        given = [kernel.contiguous(memory_format=layout) for kernel in kernels]
        torch.testing.assert_close(orthogonalize_kernels(given, torch.float32), expected, rtol=0, atol=1e-4)


def stepwise_of_any_shape(matrix: Tensor) -> Tensor:
    return stepwise(matrix) if len(matrix) <= matrix.shape[1] else stepwise(matrix.T).T


def test_bfloat16_rounds_no_more_than_steps_on_the_matrix() -> None:
    torch.manual_seed(0)
    matrix = with_singular_values(torch.logspace(0, -3, 64, dtype=torch.float64), 576)
    expected, rounded = stepwise(matrix), matrix.bfloat16()

    def error(found: Tensor) -> float:
        return float((found.double() - expected).norm() / expected.norm())

    assert error(orthogonalize(rounded)) < error(stepwise(rounded))
    assert error(orthogonalize(rounded)) < 0.1


@pytest.mark.parametrize("rank", [1, 5])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_gradient_of_low_rank_is_not_blown_up(rank: int, scale: float) -> None:
    """Its product with itself has eigenvalues of 0, which rounding makes negative."""
    torch.manual_seed(0)
    matrix = scale * torch.randn(64, rank) @ torch.randn(rank, 576)
    values = torch.linalg.svdvals(orthogonalize(matrix.bfloat16()).float())
    assert values[0] < 1.3
    assert values[rank - 1] > 0.5


def test_muon_leaves_huge_matrices_to_adamw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "MAX_SHORT_SIDE", 6)
    huge, usual, bias = (torch.nn.Parameter(torch.ones(shape)) for shape in ((7, 8), (6, 40), (7,)))
    groups = [
        {"params": [huge, usual], "weight_decay": 0.5, "orthogonal": True},
        {"params": [bias], "weight_decay": 0.0, "orthogonal": False},
    ]
    optimizer = Muon(groups, OptimizerConfig(name="muon"))
    kinds = {id(p): (g["orthogonal"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert kinds == {id(huge): (False, 0.5), id(usual): (True, 0.5), id(bias): (False, 0.0)}
