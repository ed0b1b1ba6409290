"""Test Lovász-Softmax against its definition: a sum over sets of wrong pixels, each with its own IoU."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from pixelwise.losses import lovasz
from pixelwise.losses.lovasz_softmax import compute_jaccard_steps

VOID = 255


def loss_of_wrong(is_class: list[bool], weight: list[float], wrong: list[int]) -> float:
    """Return one minus IoU of a class if exactly these pixels are wrong."""
    inside = sum(w for c, w in zip(is_class, weight, strict=True) if c)
    missed = sum(weight[i] for i in wrong if is_class[i])
    added = sum(weight[i] for i in wrong if not is_class[i])
    return 1 - (inside - missed) / (inside + added)


def by_definition(logits: Tensor, labels: Tensor, weights: Tensor) -> float:
    """Return the sum of the sorted errors, each times the increase of the loss by its pixel."""
    p = logits.softmax(1).movedim(1, 0).flatten(1).numpy()
    truth, weight = labels.flatten().tolist(), weights.flatten().tolist()
    valid = [i for i, label in enumerate(truth) if label != VOID]
    losses = []
    for c in sorted({truth[i] for i in valid}):
        is_class, of_pixel = [truth[i] == c for i in valid], [weight[i] for i in valid]
        errors = [1 - p[c, i] if truth[i] == c else p[c, i] for i in valid]
        wrong: list[int] = []
        total = 0.0
        for place in np.argsort(errors)[::-1]:
            before = loss_of_wrong(is_class, of_pixel, wrong)
            wrong.append(int(place))
            total += errors[place] * (loss_of_wrong(is_class, of_pixel, wrong) - before)
        losses.append(total)
    return float(np.mean(losses)) if losses else 0.0


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), num_classes=st.integers(1, 4), void=st.sampled_from([0.0, 0.3, 1.0]))
def test_equals_definition(seed: int, num_classes: int, void: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, num_classes, 2, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, num_classes, (2, 2, 3), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < void] = VOID
    weights = torch.rand(labels.shape, generator=generator, dtype=torch.float64) + 0.1
    found = lovasz(logits, labels, ignore_index=VOID, pixel_weights=weights)
    assert found.item() == pytest.approx(by_definition(logits, labels, weights))


def test_certain_predictions_give_one_minus_mean_iou() -> None:
    labels = torch.tensor([[[0, 0, 0, 1, 1, VOID]]])
    logits = 100.0 * functional.one_hot(torch.tensor([[[0, 0, 1, 1, 1, 0]]]), 2).permute(0, 3, 1, 2)
    assert lovasz(logits, labels, ignore_index=VOID).item() == pytest.approx(1 - (2 / 3 + 2 / 3) / 2)


def test_pixel_of_weight_2_counts_twice() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(1, 3, 1, 5), torch.tensor([[[0, 1, 1, 2, 0]]])
    weighted = lovasz(logits, labels, ignore_index=VOID, pixel_weights=torch.tensor([[[1.0, 2, 1, 1, 1]]]))
    twice = [0, 1, 1, 2, 3, 4]
    torch.testing.assert_close(weighted, lovasz(logits[..., twice], labels[..., twice], ignore_index=VOID))


def test_steps_by_hand() -> None:
    """Two of three pixels are of the class; in the second case the other one is wrong between them."""
    ones = torch.ones(3)
    assert compute_jaccard_steps(torch.tensor([True, True, False]), ones).tolist() == [0.5, 0.5, 0]
    steps = compute_jaccard_steps(torch.tensor([True, False, True]), ones)
    torch.testing.assert_close(steps, torch.tensor([1 / 2, 1 / 6, 1 / 3]))


def test_class_of_weight_0_counts_in_the_mean() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(1, 2, 1, 4), torch.tensor([[[0, 1, 1, 0]]])
    parts = [lovasz(logits, labels, ignore_index=VOID, class_weights=torch.eye(2)[c]) for c in (0, 1)]
    torch.testing.assert_close(parts[0] + parts[1], lovasz(logits, labels, ignore_index=VOID))


def test_gradient_jumps_where_two_pixels_swap_order() -> None:
    """Runs that differ by rounding can diverge: the loss hardly changes, but two gradients are exchanged."""
    labels = torch.tensor([[[0, 1, 1, 0]]])

    def at(nudge: float) -> tuple[float, Tensor]:
        margin = torch.tensor([1.0, nudge - 1.0, 2.0, -2.0], dtype=torch.float64)  # two pixels are as wrong
        logits = torch.stack([torch.zeros(4), margin]).view(1, 2, 1, 4).requires_grad_()
        loss = lovasz(logits, labels, ignore_index=VOID)
        loss.backward()
        assert logits.grad is not None
        return loss.item(), logits.grad

    (before, slopes), (after, others) = at(-1e-7), at(1e-7)
    assert abs(after - before) < 1e-6
    assert (others - slopes).abs().max() > 0.01
