"""Test losses against loops over pixels in NumPy, against PyTorch, and the rules for weights and ignored pixels."""

import math
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pixelwise.config import LossConfig
from pixelwise.errors import InvalidArgumentError
from pixelwise.losses import LOSSES, Loss, build_loss, cross_entropy, cross_entropy_and_dice, dice, focal, tversky

VOID = 255
EVERY = {**LOSSES, "cross_entropy_and_dice": cross_entropy_and_dice}
every_loss = pytest.mark.parametrize("loss", EVERY.values(), ids=EVERY.keys())


def batch(
    seed: int = 0, shape: tuple[int, int, int] = (2, 5, 7), num_classes: int = 3, void: float = 0.3
) -> tuple[Tensor, Tensor]:
    """Return random float64 logits (B, K, H, W) and uint8 labels (B, H, W), a share of them ignored."""
    generator = torch.Generator().manual_seed(seed)
    size, (height, width) = shape[0], shape[1:]
    logits = 3 * torch.randn(size, num_classes, height, width, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, num_classes, shape, generator=generator, dtype=torch.uint8)
    labels[torch.rand(shape, generator=generator) < void] = VOID
    return logits, labels


def gradient(loss: Loss, logits: Tensor, labels: Tensor, ignore_index: int = VOID) -> Tensor:
    """Return the gradient of the loss; ``logits.grad`` would have the memory format of the logits."""
    logits = logits.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    return torch.autograd.grad(loss(logits, labels, ignore_index=ignore_index), logits)[0]


def pixel_by_pixel(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, pixel_weights: Tensor | None = None
) -> tuple[float, float]:
    """Return cross-entropy and Dice by their formulas, one pixel at a time."""
    num_classes = logits.shape[1]
    of_class = np.ones(num_classes) if class_weights is None else class_weights.numpy()
    of_pixel = np.ones(labels.shape) if pixel_weights is None else pixel_weights.numpy()
    cross_entropy, num_pixels = 0.0, 0
    both, either = np.zeros(num_classes), np.zeros(num_classes)
    true = np.zeros(num_classes)
    for b, y, x in np.ndindex(*labels.shape):
        label = int(labels[b, y, x])
        if label == VOID:
            continue
        scores = np.exp(logits[b, :, y, x].numpy())
        p, w = scores / scores.sum(), of_pixel[b, y, x]
        cross_entropy -= of_class[label] * w * math.log(p[label])
        num_pixels += 1
        both[label] += w * p[label]
        either += w * p
        either[label] += w
        true[label] += w
    shares = [of_class[c] * (1 - 2 * both[c] / either[c]) for c in range(num_classes) if true[c]]
    return cross_entropy / max(num_pixels, 1), float(np.mean(shares)) if shares else 0.0


@given(
    seed=st.integers(0, 2**32),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    num_classes=st.integers(1, 5),
    void=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    weighted=st.booleans(),
)
def test_equals_sums_pixel_by_pixel(
    seed: int, height: int, width: int, num_classes: int, void: float, weighted: bool
) -> None:
    logits, labels = batch(seed, (2, height, width), num_classes, void)
    generator = torch.Generator().manual_seed(seed)
    of_class = torch.rand(num_classes, generator=generator, dtype=torch.float64) if weighted else None
    of_pixel = torch.rand(labels.shape, generator=generator, dtype=torch.float64) if weighted else None
    weights = {"class_weights": of_class, "pixel_weights": of_pixel}
    expected_cross_entropy, expected_dice = pixel_by_pixel(logits, labels, of_class, of_pixel)

    first = cross_entropy(logits, labels, ignore_index=VOID, **weights).item()
    second = dice(logits, labels, ignore_index=VOID, **weights).item()
    both = cross_entropy_and_dice(logits, labels, ignore_index=VOID, dice_weight=0.5, **weights).item()

    assert first == pytest.approx(expected_cross_entropy)
    assert second == pytest.approx(expected_dice)
    assert both == pytest.approx(expected_cross_entropy + 0.5 * expected_dice)


def test_values_by_hand() -> None:
    # Two pixels, both of class 0, predicted with probability 1/2 and 3/4; a third is void.
    logits = torch.log(torch.tensor([[[[0.5, 0.75, 0.1]], [[0.5, 0.25, 0.9]]]]))
    labels = torch.tensor([[[0, 0, VOID]]], dtype=torch.uint8)

    assert cross_entropy(logits, labels, ignore_index=VOID).item() == pytest.approx(
        (math.log(2) + math.log(4 / 3)) / 2, rel=1e-6
    )
    # 2 * (1/2 + 3/4) / (1/2 + 3/4 + 2) of class 0; class 1 does not occur.
    assert dice(logits, labels, ignore_index=VOID).item() == pytest.approx(1 - 2.5 / 3.25, rel=1e-6)


def test_cross_entropy_matches_pytorch() -> None:
    logits, labels = batch(num_classes=11)
    # Every class has weight 1 here, so that PyTorch divides by the number of pixels too.
    assert cross_entropy(logits, labels, ignore_index=VOID).item() == pytest.approx(
        F.cross_entropy(logits, labels.long(), ignore_index=VOID).item()
    )
    logits.requires_grad_()
    F.cross_entropy(logits, labels.long(), ignore_index=VOID).backward()
    torch.testing.assert_close(gradient(cross_entropy, logits, labels), logits.grad)


@every_loss
@pytest.mark.parametrize("weighted", [False, True])
def test_gradcheck(loss: Loss, weighted: bool) -> None:
    logits, labels = batch(shape=(2, 3, 4))
    of_class = torch.tensor([0.5, 2.0, 1.5], dtype=torch.float64) if weighted else None
    of_pixel = torch.rand(labels.shape, dtype=torch.float64) if weighted else None

    def of_logits(logits: Tensor) -> Tensor:
        return loss(logits, labels, ignore_index=VOID, class_weights=of_class, pixel_weights=of_pixel)

    assert torch.autograd.gradcheck(of_logits, logits.requires_grad_())


@every_loss
def test_blocks_do_not_change_loss_and_gradient(loss: Loss, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = batch(shape=(2, 7, 5))
    whole = loss(logits, labels, ignore_index=VOID), gradient(loss, logits, labels)
    monkeypatch.setattr("pixelwise.losses.soft_confusion._CACHED_PIXELS", 10)
    torch.testing.assert_close(loss(logits, labels, ignore_index=VOID), whole[0])
    torch.testing.assert_close(gradient(loss, logits, labels), whole[1])


@every_loss
def test_doubled_weights_double_the_loss(loss: Loss) -> None:
    logits, labels = batch()
    plain = loss(logits, labels, ignore_index=VOID)
    ones = loss(logits, labels, ignore_index=VOID, class_weights=torch.ones(3))
    twos = loss(logits, labels, ignore_index=VOID, class_weights=torch.full((3,), 2.0))
    torch.testing.assert_close(ones, plain)
    torch.testing.assert_close(twos, 2 * plain)


def test_pixel_weights_scale_cross_entropy_but_not_dice() -> None:
    logits, labels = batch()
    twos = torch.full(labels.shape, 2.0)
    torch.testing.assert_close(
        cross_entropy(logits, labels, ignore_index=VOID, pixel_weights=twos),
        2 * cross_entropy(logits, labels, ignore_index=VOID),
    )
    torch.testing.assert_close(
        dice(logits, labels, ignore_index=VOID, pixel_weights=twos), dice(logits, labels, ignore_index=VOID)
    )


def test_cross_entropy_is_divided_by_pixels_not_by_weights() -> None:
    logits, labels = batch()
    weights = torch.tensor([0.1, 0.2, 3.0], dtype=torch.float64)
    valid = labels != VOID
    total = F.cross_entropy(logits, labels.long(), weight=weights, ignore_index=VOID, reduction="sum")
    torch.testing.assert_close(
        cross_entropy(logits, labels, ignore_index=VOID, class_weights=weights), total / valid.sum()
    )


@every_loss
def test_ignored_pixels_do_not_count_and_get_no_gradient(loss: Loss) -> None:
    logits, labels = batch()
    void = (labels == VOID).unsqueeze(1)
    other = torch.where(void, 50 * torch.randn_like(logits), logits)
    assert loss(other, labels, ignore_index=VOID) == loss(logits, labels, ignore_index=VOID)
    assert torch.all(gradient(loss, logits, labels).masked_select(void) == 0)
    assert torch.all(gradient(loss, logits, labels).masked_select(~void) != 0)


@every_loss
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_loss_and_gradient_are_0_without_valid_pixels(loss: Loss, memory_format: torch.memory_format) -> None:
    logits = batch()[0].float().contiguous(memory_format=memory_format)
    labels = torch.full((2, 5, 7), VOID, dtype=torch.uint8)
    assert loss(logits, labels, ignore_index=VOID).item() == 0
    assert torch.equal(gradient(loss, logits, labels), torch.zeros_like(logits))


@every_loss
@pytest.mark.parametrize(
    ("dtype", "ignore_index"),
    [
        (torch.uint8, 255),
        (torch.uint8, 65535),
        (torch.uint16, 65535),
        (torch.int16, -1),
        (torch.int32, 255),
        (torch.int64, -100),
    ],
)
def test_labels_of_any_integer_dtype(loss: Loss, dtype: torch.dtype, ignore_index: int) -> None:
    logits, labels = batch(void=0.0)
    expected = loss(logits, labels, ignore_index=VOID)
    assert loss(logits, labels.to(dtype), ignore_index=ignore_index) == expected

    marked = labels.long()
    marked[0, :3] = VOID
    expected = loss(logits, marked, ignore_index=VOID)
    if torch.iinfo(dtype).min <= ignore_index <= torch.iinfo(dtype).max:
        marked[0, :3] = ignore_index
        assert loss(logits, marked.to(dtype), ignore_index=ignore_index) == expected


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_logits_are_computed_in_float32(loss: Loss, dtype: torch.dtype, autocast: bool) -> None:
    logits, labels = batch(num_classes=11)
    logits = logits.to(dtype)
    expected = loss(logits.float(), labels, ignore_index=VOID)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = loss(logits, labels, ignore_index=VOID)
        slope = gradient(loss, logits, labels)
    assert found.dtype == torch.float32
    assert found == expected
    assert slope.dtype == dtype
    assert torch.equal(slope, gradient(loss, logits.float(), labels).to(dtype))


@every_loss
def test_float64_stays_float64(loss: Loss) -> None:
    logits, labels = batch()
    assert loss(logits, labels, ignore_index=VOID).dtype == torch.float64


@every_loss
def test_memory_format_of_logits_is_kept(loss: Loss) -> None:
    logits, labels = batch()
    last = logits.contiguous(memory_format=torch.channels_last)
    assert loss(last, labels, ignore_index=VOID) == loss(logits, labels, ignore_index=VOID)
    slope = gradient(loss, last, labels)
    assert slope.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(slope, gradient(loss, logits, labels))


@every_loss
def test_extreme_logits_stay_finite(loss: Loss) -> None:
    logits, labels = batch()
    huge = (1e4 * logits).float()
    assert torch.isfinite(loss(huge, labels, ignore_index=VOID))
    assert torch.isfinite(gradient(loss, huge, labels)).all()


@every_loss
def test_gradient_descent_finds_labels(loss: Loss) -> None:
    labels = batch()[1]
    logits = torch.zeros(2, 3, 5, 7, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.5)
    for _ in range(30):
        optimizer.zero_grad()
        loss(logits, labels, ignore_index=VOID).backward()
        optimizer.step()
    assert torch.equal(logits.argmax(1)[labels != VOID], labels[labels != VOID].long())


def test_dice_is_0_if_correct_and_1_if_wrong_everywhere() -> None:
    labels = batch(void=0.0)[1].long()
    right = 100 * F.one_hot(labels, 3).permute(0, 3, 1, 2).float()
    assert dice(right, labels, ignore_index=VOID).item() == pytest.approx(0, abs=1e-6)
    assert dice(right.roll(1, dims=1), labels, ignore_index=VOID).item() == pytest.approx(1)


def test_dice_sums_over_the_batch() -> None:
    logits, labels = batch(shape=(2, 4, 4))
    together = dice(logits, labels, ignore_index=VOID)
    stacked = dice(
        torch.cat([logits[:1], logits[1:]], dim=2), torch.cat([labels[:1], labels[1:]], dim=1), ignore_index=VOID
    )
    torch.testing.assert_close(together, stacked)


def test_false_positives_of_absent_class_increase_dice() -> None:
    """In an image of background only, more predicted foreground increases the loss, and training removes it."""
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 0] = 10.0
    clean = dice(logits, labels, ignore_index=VOID).item()
    logits[0, 1, 0, :2] = 20.0
    some = dice(logits, labels, ignore_index=VOID).item()
    logits[0, 1, :2] = 20.0
    half = dice(logits, labels, ignore_index=VOID).item()
    assert clean == pytest.approx(0, abs=1e-3)
    # 14 of 16 found: 1 - 2 * 14 / (14 + 16); 8 of 16: 1 - 2 * 8 / (8 + 16).
    assert some == pytest.approx(1 / 15, abs=1e-3)
    assert half == pytest.approx(1 / 3, abs=1e-3)
    assert torch.all(gradient(dice, torch.zeros(1, 2, 4, 4), labels)[:, 1] > 0)


@pytest.mark.parametrize("given", [(2, 3, 5), (2, 3, 5, 7, 1)])
def test_invalid_logits_raise(given: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"logits is .*, but must be \(B, K, H, W\)"):
        cross_entropy(torch.zeros(given), torch.zeros(2, 5, 7, dtype=torch.long), ignore_index=VOID)


def test_integer_logits_raise() -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"logits is \(2, 3, 5, 7\) torch.int64 on cpu, but must be .* float16"
    ):
        dice(torch.zeros(2, 3, 5, 7, dtype=torch.long), torch.zeros(2, 5, 7, dtype=torch.long), ignore_index=VOID)


@every_loss
def test_mismatched_arguments_raise(loss: Loss) -> None:
    logits, labels = batch()
    with pytest.raises(InvalidArgumentError, match=r"labels is \(2, 1, 5, 7\) .*, but must be \(B, H, W\)"):
        loss(logits, labels.unsqueeze(1), ignore_index=VOID)
    with pytest.raises(InvalidArgumentError, match=r"class_weights is \(4,\) .*, but must be \(K,\) = \(3,\)"):
        loss(logits, labels, ignore_index=VOID, class_weights=torch.ones(4))
    with pytest.raises(InvalidArgumentError, match=r"pixel_weights is \(5, 7\) .*, but must be \(B, H, W\)"):
        loss(logits, labels, ignore_index=VOID, pixel_weights=torch.ones(5, 7))


# Pixels of each class in CamVid's training images (367 of 360×480).
CAMVID_TRAIN_PIXELS = [
    10682767, 14750079, 623349, 20076880, 2845085, 6166762, 743859, 714595, 3719877, 405385, 184967,
]  # fmt: skip


def test_weights_of_segnet_average_0_5091_over_camvid() -> None:
    """PyTorch's normalization would multiply SegNet's learning rate by 1 / 0.5091 = 1.96."""
    published = torch.tensor([0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, 9.6446, 1.8418, 0.6823, 6.2478, 7.3614])
    thousands = [round(n / 1000) for n in CAMVID_TRAIN_PIXELS]
    labels = torch.repeat_interleave(torch.arange(11), torch.tensor(thousands)).view(1, 1, -1)
    logits = torch.zeros(1, 11, *labels.shape[1:])
    ours = cross_entropy(logits, labels, ignore_index=VOID, class_weights=published)
    pytorch = F.cross_entropy(logits, labels, weight=published)
    assert (ours / pytorch).item() == pytest.approx(0.5091, abs=5e-5)


def test_losses_match_config() -> None:
    assert tuple(LOSSES) == get_type_hints(LossConfig)["name"].__args__


def of_config(**settings: Any) -> float:
    logits, labels = batch()
    return build_loss(LossConfig(**settings))(logits, labels, ignore_index=VOID).item()


@pytest.mark.parametrize("name", LOSSES)
def test_config_selects_loss_and_extra_terms(name: str) -> None:
    logits, labels = batch()
    alone = {key: LOSSES[key](logits, labels, ignore_index=VOID).item() for key in LOSSES}
    assert of_config(name=name) == pytest.approx(alone[name])
    assert of_config(name=name, dice_weight=0.5) == pytest.approx(alone[name] + 0.5 * alone["dice"])
    beside = 0.5 * alone["dice"] + 2 * alone["lovasz"]
    assert of_config(name=name, dice_weight=0.5, lovasz_weight=2.0) == pytest.approx(alone[name] + beside)


def test_config_sets_gamma_and_beta() -> None:
    logits, labels = batch()
    sharp, plain = focal(logits, labels, ignore_index=VOID, gamma=5.0), of_config(name="focal")
    assert of_config(name="focal", focal_gamma=5.0) == pytest.approx(sharp.item()) != pytest.approx(plain)
    missed, plain = tversky(logits, labels, ignore_index=VOID, beta=0.9), of_config(name="tversky")
    assert of_config(name="tversky", tversky_beta=0.9) == pytest.approx(missed.item()) != pytest.approx(plain)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_equals_formula_pixel_by_pixel(gamma: float) -> None:
    logits, labels = batch()
    p = logits.softmax(1).gather(1, labels.long().masked_fill(labels == VOID, 0).unsqueeze(1))[:, 0]
    expected = (-((1 - p) ** gamma) * p.log())[labels != VOID].mean()
    torch.testing.assert_close(focal(logits, labels, ignore_index=VOID, gamma=gamma), expected)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 3.0])
def test_gradient_of_focal_is_finite_for_correct_pixels(gamma: float) -> None:
    logits, labels = batch(shape=(1, 3, 3))

    def of_logits(logits: Tensor) -> Tensor:
        return focal(logits, labels, ignore_index=VOID, gamma=gamma)

    assert torch.autograd.gradcheck(of_logits, logits.requires_grad_())
    right = (1e3 * F.one_hot(labels.long() % 3, 3).permute(0, 3, 1, 2)).float().requires_grad_()
    assert torch.equal(torch.autograd.grad(of_logits(right), right)[0], torch.zeros_like(right))


def test_focal_with_gamma_0_is_cross_entropy_and_tversky_with_beta_half_is_dice() -> None:
    logits, labels = batch()
    options = {"ignore_index": VOID, "class_weights": torch.tensor([0.5, 2.0, 1.0])}
    torch.testing.assert_close(focal(logits, labels, gamma=0.0, **options), cross_entropy(logits, labels, **options))
    torch.testing.assert_close(tversky(logits, labels, beta=0.5, **options), dice(logits, labels, **options))


def test_tversky_by_hand() -> None:
    """Class 0 has four pixels: three true positives, one false negative, and two false positives."""
    labels = torch.tensor([[[0, 0, 0, 0, 1, 1, 1]]])
    logits = 100.0 * F.one_hot(torch.tensor([[[0, 0, 0, 1, 0, 0, 1]]]), 2).permute(0, 3, 1, 2)
    expected = (1 - 3 / (3 + 0.2 * 2 + 0.8 * 1) + 1 - 1 / (1 + 0.2 * 1 + 0.8 * 2)) / 2
    assert tversky(logits, labels, ignore_index=VOID, beta=0.8).item() == pytest.approx(expected)


def test_invalid_gamma_and_beta_raise() -> None:
    logits, labels = batch()
    with pytest.raises(InvalidArgumentError, match=r"gamma is -1\.0, but must be >= 0"):
        focal(logits, labels, ignore_index=VOID, gamma=-1.0)
    with pytest.raises(InvalidArgumentError, match=r"beta is 1\.5, but must be from 0 to 1"):
        tversky(logits, labels, ignore_index=VOID, beta=1.5)
