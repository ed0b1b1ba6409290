import math
from copy import deepcopy
from typing import get_type_hints

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pixelwise.config import OptimizerConfig, ScheduleConfig
from pixelwise.training.optimizers import (
    AveragedWeights,
    build_optimizer,
    clip_gradients,
    compute_lr_factor,
    compute_resolution,
    set_learning_rate,
)

NAMES = get_type_hints(ScheduleConfig)["name"].__args__
OPTIMIZERS = get_type_hints(OptimizerConfig)["name"].__args__
SHARES = st.floats(0, 1)

schedules = st.builds(
    ScheduleConfig,
    name=st.sampled_from(NAMES),
    warmup=st.floats(0, 0.95),
    pct_start=st.floats(0.01, 0.99),
    final_lr_ratio=SHARES,
    start_scale=st.floats(0.01, 1),
    full_scale_from=SHARES,
)


@given(schedules, SHARES)
def test_the_learning_rate_lies_between_zero_and_the_peak(config: ScheduleConfig, progress: float) -> None:
    assert 0 <= compute_lr_factor(progress, config) <= 1


@given(schedules, SHARES)
def test_the_learning_rate_is_continuous(config: ScheduleConfig, progress: float) -> None:
    near = min(1.0, progress + 1e-9)
    # Warming up within 1e-3 of the run climbs by 1e-6 here; poly is steepest at its end.
    if config.warmup > 1e-3 or config.warmup == 0:
        difference = compute_lr_factor(near, config) - compute_lr_factor(progress, config)
        assert abs(difference) < 1e-5


def peak_of(config: ScheduleConfig) -> float:
    """Progress at which the learning rate is highest."""
    return config.warmup + (1 - config.warmup) * (config.pct_start if config.name == "one_cycle" else 0)


@given(schedules)
def test_the_learning_rate_peaks_after_warmup_and_ends_at_its_final_value(config: ScheduleConfig) -> None:
    assert compute_lr_factor(peak_of(config), config) == pytest.approx(1)
    expected = 1 if config.name == "constant" else config.final_lr_ratio
    assert compute_lr_factor(1.0, config) == pytest.approx(expected, abs=1e-6)


@given(schedules, SHARES, SHARES)
def test_the_learning_rate_rises_and_then_never_again(config: ScheduleConfig, a: float, b: float) -> None:
    early, late = sorted((a, b))
    first, second = (compute_lr_factor(p, config) for p in (early, late))
    if late < peak_of(config):
        assert first <= second + 1e-12
    if early >= peak_of(config):
        assert first >= second - 1e-12


@pytest.mark.parametrize(("name", "halfway"), [("cosine", 0.5), ("linear", 0.5), ("poly", 0.5**0.9), ("constant", 1.0)])
def test_the_learning_rate_halfway(name: str, halfway: float) -> None:
    config = ScheduleConfig(name=name, warmup=0, final_lr_ratio=0)  # type: ignore[arg-type]
    assert compute_lr_factor(0.5, config) == pytest.approx(halfway)


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0, 0.01 / 25), (0.1, 0.5 / 25 * 1.01), (0.2, 1 / 25), (0.4, 0.52), (0.6, 1), (0.8, 0.505), (1, 0.01)],
)
def test_one_cycle_by_table(progress: float, expected: float) -> None:
    """Warmed up to a 25th of the peak in a fifth of the run, at the peak after half of the rest."""
    config = ScheduleConfig(name="one_cycle", warmup=0.2, pct_start=0.5, final_lr_ratio=0.01)
    assert compute_lr_factor(progress, config) == pytest.approx(expected)


def test_the_first_step_is_not_lost() -> None:
    assert compute_lr_factor(0, ScheduleConfig()) == pytest.approx(0.01)


@given(schedules, SHARES, SHARES)
def test_samples_grow_to_their_full_size(config: ScheduleConfig, a: float, b: float) -> None:
    early, late = sorted((a, b))
    assert 0 <= compute_resolution(early, config) <= compute_resolution(late, config) <= 1
    assert compute_resolution(1.0, config) == 1
    assert compute_resolution(early, config) * 8 % 1 == 0


def test_samples_grow_in_eighths() -> None:
    config = ScheduleConfig(start_scale=0.5, full_scale_from=0.8)
    assert [compute_resolution(p, config) for p in (0, 0.1, 0.2, 0.5, 0.79, 0.8)] == [0.5, 0.5, 0.625, 0.75, 0.875, 1]


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 3, 1))


def set_to(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(value)


def test_the_average_of_the_first_steps_forgets_the_fresh_weights() -> None:
    model = module()
    average = AveragedWeights(model, time_constant=0.5)
    set_to(model, 4.0)
    average.update(model, 0, 1e-4)  # a tenth stays of what was there
    fresh = module().state_dict()["0.weight"]
    torch.testing.assert_close(average.state["0.weight"], 0.1 * fresh + 0.9 * 4)


def test_the_memory_of_the_average_is_a_share_of_the_run() -> None:
    """Half of a run after all weights changed, exp(-0.5 / memory) of the old ones is left."""
    model = module()
    set_to(model, 0.0)
    average = AveragedWeights(model, time_constant=0.2)
    set_to(model, 1.0)
    for step in range(10**6, 10**6 + 500):
        average.update(model, step, 1e-3)
    left = 1 - float(average.state["0.weight"].mean())
    assert left == pytest.approx(math.exp(-0.5 / 0.2), rel=1e-3)


def test_without_memory_the_average_is_the_newest() -> None:
    model = module()
    average = AveragedWeights(model, time_constant=0)
    set_to(model, 3.0)
    average.update(model, 100, 0.01)
    assert all(torch.equal(average.state[name], tensor) for name, tensor in model.state_dict().items())


def test_counters_are_copied_and_not_averaged() -> None:
    model = module()
    average = AveragedWeights(model, time_constant=0.5)
    set_to(model, 7)
    average.update(model, 500, 0.001)
    assert int(average.state["1.num_batches_tracked"]) == 7


def test_the_average_does_not_share_memory_with_the_model() -> None:
    model = module()
    average = AveragedWeights(model, time_constant=0.5)
    before = average.state["0.weight"].clone()
    set_to(model, 9.0)
    assert torch.equal(average.state["0.weight"], before)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_reduces_a_quadratic(name: str, momentum: float) -> None:
    """The sum of squares over a matrix and a vector, from 28 to less than a hundredth of it."""
    model = nn.Linear(6, 4)
    nn.init.ones_(model.weight)
    nn.init.ones_(model.bias)
    config = OptimizerConfig(name=name, lr=0.02, momentum=momentum, weight_decay=0)  # type: ignore[arg-type]
    optimizer = build_optimizer(model, config)
    for _ in range(800):
        optimizer.zero_grad()
        loss = (model.weight**2).sum() + (model.bias**2).sum()
        loss.backward()
        optimizer.step()
    assert loss < 0.28


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_biases_and_normalization_are_not_decayed(name: str) -> None:
    model = module()
    config = OptimizerConfig(name=name, weight_decay=0.3)  # type: ignore[arg-type]
    groups = build_optimizer(model, config).param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {id(p) for p in model.parameters() if p.ndim >= 2}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_restored_optimizer_takes_equal_steps(name: str) -> None:
    config = OptimizerConfig(name=name, lr=0.1)  # type: ignore[arg-type]

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        sum((p**2).sum() for p in model.parameters()).backward()  # type: ignore[union-attr]
        optimizer.step()

    model = module()
    optimizer = build_optimizer(model, config)
    step(model, optimizer)
    other = module()
    other.load_state_dict(model.state_dict())
    restored = build_optimizer(other, config)
    restored.load_state_dict(deepcopy(optimizer.state_dict()))
    step(model, optimizer)
    step(other, restored)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_have_their_share_of_the_learning_rate(name: str) -> None:
    model = module()
    config = OptimizerConfig(name=name, weight_decay=0.3)  # type: ignore[arg-type]
    optimizer = build_optimizer(model, config, scales=dict.fromkeys(model[0].parameters(), 0.25))
    set_learning_rate(optimizer, 0.8)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    slow = {id(p) for p in model[0].parameters()}
    assert rates == {id(p): pytest.approx(0.2 if id(p) in slow else 0.8) for p in model.parameters()}
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {id(p) for p in model.parameters() if p.ndim >= 2}


def depthwise_separable() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 6, 1), nn.ConvTranspose2d(6, 6, 4, groups=6))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_depthwise_kernels_are_not_decayed_nor_orthogonalized(name: str) -> None:
    model = depthwise_separable()
    groups = build_optimizer(model, OptimizerConfig(name=name, weight_decay=0.3)).param_groups  # type: ignore[arg-type]
    decayed = [p for group in groups if group["weight_decay"] for p in group["params"]]
    assert len(decayed) == 1
    assert decayed[0] is model[1].weight
    if name == "muon":
        assert [p for group in groups if group["orthogonal"] for p in group["params"]] == decayed


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_encoder_has_its_own_learning_rate(name: str) -> None:
    model = module()
    config = OptimizerConfig(name=name, lr=0.02, encoder_lr=5e-4)  # type: ignore[arg-type]
    encoder = set(model[0].parameters())
    optimizer = build_optimizer(model, config, encoder=encoder)
    set_learning_rate(optimizer, 0.01)  # half of the peak
    # The rate of Muon's AdamW is a tenth of that of its group.
    factor = 10 if name == "muon" else 1
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates == {p: pytest.approx(factor * 2.5e-4 if p in encoder else 0.01) for p in model.parameters()}
    if name == "muon":
        orthogonal = {p for group in optimizer.param_groups if group["orthogonal"] for p in group["params"]}
        assert orthogonal == {p for p in model.parameters() if p.ndim >= 2} - encoder


def test_muon_moves_an_encoder_by_the_learning_rate_of_adamw() -> None:
    """The first step of Adam moves every weight by the learning rate, whatever the gradient."""
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    config = OptimizerConfig(name="muon", lr=0.02, encoder_lr=5e-4, weight_decay=0, momentum=0.0)
    optimizer = build_optimizer(model, config, encoder=model.parameters())
    set_learning_rate(optimizer, 0.02)
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    torch.testing.assert_close(before - model.weight, torch.full((2, 3), 5e-4), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("max_norm", [1.0, 13.0, 20.0])
def test_gradients_are_clipped_to_a_global_norm(max_norm: float) -> None:
    a, b, frozen = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    a.grad, b.grad = torch.tensor([3.0, 4.0]), torch.tensor([12.0])
    clip_gradients([a, b, frozen], max_norm)
    factor = min(max_norm / 13, 1.0)
    torch.testing.assert_close(torch.cat([a.grad, b.grad]), factor * torch.tensor([3.0, 4.0, 12.0]))


def test_a_gradient_that_is_nan_makes_all_gradients_nan() -> None:
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    a.grad, b.grad = torch.tensor([math.nan]), torch.tensor([1.0])
    clip_gradients([a, b], 5.0)
    assert b.grad.isnan()
