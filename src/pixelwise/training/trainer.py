"""What is trained on what, and the one step that does it. The planner times this very step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import record_function

from pixelwise.config import Config
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array
from pixelwise.data.loader import Batch, Batches, SampleCache
from pixelwise.data.sample import Sample, Splits
from pixelwise.data.unet_weight_map import border_weights
from pixelwise.devices import Precision, get_random_state, keep_freed_memory, set_random_state
from pixelwise.errors import InvalidArgumentError
from pixelwise.inference.predictor import Predictor, make_predictor
from pixelwise.losses import build_loss
from pixelwise.lowering.compile_errors import explain_compile_errors
from pixelwise.model_file import ModelSpec
from pixelwise.networks import Segmenter
from pixelwise.networks.activation_checkpointing import enable_activation_checkpointing
from pixelwise.networks.stages import compute_learning_rate_scales, get_first_stages
from pixelwise.training.distributed import ALONE, Order, What, World, losses_explained
from pixelwise.training.fsdp import cut_optimizer_state, cut_state_like, gathered, shard
from pixelwise.training.gradient_accumulation import add_gradients, is_mean_over_pixels
from pixelwise.training.optimizers import (
    AveragedWeights,
    build_optimizer,
    learning_rate_factor,
    set_learning_rate,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is trained on what: the config resolved, the data read, the model described."""

    config: Config
    dataset: Dataset
    splits: Splits
    spec: ModelSpec
    class_weights: tuple[float, ...] | None
    device: torch.device
    initial: Mapping[str, Tensor] | None = None
    """The network's first weights, where they are not drawn."""
    world: World = ALONE
    """The processes that train together, each on its share of every batch."""

    def batches(self) -> Batches:
        config = self.config
        return Batches(
            cache=SampleCache(self.dataset, config.data.cache_gib * 2**30),
            samples=self.splits["train"],
            augmentation=config.augmentation,
            crop_size=config.data.crop_size,
            batch_size=config.training.batch_size,
            seed=config.training.seed,
            rank=self.world.rank,
            world_size=self.world.size,
            compute_pixel_weights=self._border_weights(),
            pin_memory=self.device.type == "cuda",
        )

    def _border_weights(self) -> Callable[[Array], Array] | None:
        """U-Net's border weights of a label map, where the config asks for them."""
        loss = self.config.loss
        if not loss.border_weight:
            return None
        # The loss multiplies by the class weight; the paper adds to it.
        of_background = self.class_weights[0] if self.class_weights else 1.0
        return partial(
            border_weights,
            ignore_index=self.spec.classes.ignore_index,
            w0=loss.border_weight / of_background,
            sigma=loss.border_sigma,
        )

    def val_samples(self) -> list[Sample]:
        """The validation images to score, a seeded draw where there are too many for the budget."""
        samples, most = self.splits["val"], self.config.data.max_val_images
        if most is None or len(samples) <= most:
            return list(samples)
        rng = np.random.default_rng([self.config.training.seed, 2])
        return [samples[i] for i in sorted(rng.choice(len(samples), most, replace=False))]


PHASES = ("forward", "loss", "backward", "optimizer", "averaged weights")
"""Parts of a step, as a profiler names them."""


class Trainer:
    """Model, optimizer and averaged weights, and the one step that moves them.

    The planner times this very step.
    """

    def __init__(self, job: Job) -> None:
        config = job.config
        torch.manual_seed(config.training.seed)
        if job.device.type == "cpu":
            keep_freed_memory()
        self.job = job
        model = job.spec.build()
        if job.initial:
            model.network.load_state_dict(job.initial)
        if config.training.sync_batch_norm:
            model = with_common_statistics(model, job.device)
        if config.training.activation_checkpointing:
            enable_activation_checkpointing(model.network)
        self.sharded = config.training.sharding == "fsdp" and job.world.size > 1
        if self.sharded:
            shard(model, job.device)  # of weights in another format than PyTorch's own there are no parts
        else:
            model = model.to(job.device).to(memory_format=torch.channels_last)
        self.model: Segmenter = model
        self.frozen = get_first_stages(self.model.network, config.optimizer.freeze_stages)
        for module in self.frozen:
            module.requires_grad_(False)
        scales = compute_learning_rate_scales(self.model.network, config.optimizer.layer_decay)
        self.optimizer = build_optimizer(self.model, config.optimizer, config.training.precision, scales)
        self.average = AveragedWeights(self.model, config.optimizer.ema)
        if config.training.compile:
            self.model.compile(dynamic=False)  # sizes are few, and a loop for one size is the faster one
        self.replica = self.model if self.sharded else job.world.replicate(self.model)
        self.loss = build_loss(config.loss)
        self.parts = config.training.gradient_accumulation_steps
        self.class_weights = torch.tensor(job.class_weights, device=job.device) if job.class_weights else None
        self._gathered: dict[str, Any] | None = None

    def step(self, batch: Batch, progress: float) -> Tensor:
        """One update; returns the loss without waiting for it."""
        config, self._gathered = self.job.config, None
        self.model.train()
        for module in self.frozen:
            module.eval()  # batch statistics stay, too
        set_learning_rate(self.optimizer, config.optimizer.lr * learning_rate_factor(progress, config.schedule))
        self.optimizer.zero_grad()
        with losses_explained(), explain_compile_errors():
            loss = add_gradients(
                self.replica,
                batch.to(self.job.device).chunk(self.parts),
                self._loss_of,
                config.training.precision,
                mean_over_pixels_but=self.job.spec.classes.ignore_index if is_mean_over_pixels(config.loss) else None,
                world=self.job.world,
            )
        with record_function("optimizer"), losses_explained():
            if config.optimizer.clip_norm:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.optimizer.clip_norm)
            self.optimizer.step()
        return loss

    def _loss_of(self, logits: Tensor, batch: Batch) -> Tensor:
        return self.loss(
            logits,
            batch.labels,
            ignore_index=self.job.spec.classes.ignore_index,
            class_weights=self.class_weights,
            pixel_weights=batch.pixel_weights,
        )

    def update_average(self, step: int, progress_of_step: float) -> None:
        """After each step: moves the averaged weights towards the newest. The others hold none, unless sharded."""
        if self.sharded:
            self.job.world.lead(Order(What.AVERAGE, step=step, progress=progress_of_step))
        self.update_own_average(step, progress_of_step)

    def update_own_average(self, step: int, progress_of_step: float) -> None:
        """What of it this process holds."""
        self._gathered = None
        with record_function("averaged weights"):
            self.average.update(self.model, step, progress_of_step)

    def state(self) -> dict[str, Any]:
        """All that a next step depends on, beside the batch: not copied, it changes with the next step.

        What is sharded the first process asks the others for, once a step, and may have again without them.
        """
        if self.sharded and self._gathered is None:
            self.job.world.lead(Order(What.GATHER))
            self.gather()
        tensors = self._gathered or self._tensors()
        return {**tensors, "random": get_random_state(self.job.device), "parts": self.parts}

    def gather(self) -> None:
        """Every process's part in the first one's `state`."""
        with losses_explained():
            self._gathered = gathered(self._tensors(), keep=self.job.world.is_first)

    def _tensors(self) -> dict[str, Any]:
        """As this process holds them."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state,
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`; numbers of the config, such as the weight decay, stay those of this job."""
        told = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        self._gathered = None
        self.model.load_state_dict(cut_state_like(state["model"], self.model.state_dict()))
        self.optimizer.load_state_dict(cut_optimizer_state(state["optimizer"], self.optimizer))
        for group, numbers in zip(self.optimizer.param_groups, told, strict=True):
            group.update(numbers)
        average = self.average.state
        cut = cut_state_like(state["average"], average)
        self.average.state = {name: tensor.to(average[name].device) for name, tensor in cut.items()}
        self.parts = max(self.parts, state["parts"])
        set_random_state(state["random"], self.job.device)

    def predictor(self, precision: Precision | None = None) -> Predictor:
        """The averaged weights, ready to predict; a copy, so training goes on undisturbed."""
        with torch.random.fork_rng([]):  # its first weights are drawn, which a run must not notice
            module = self.job.spec.build()
        module.load_state_dict(self.state()["average"])
        return make_predictor(module, self.job.spec, self.job.device, precision or self.job.config.training.precision)


def alone(job: Job) -> Job:
    """The job for this process without the others: whole batches, in as many parts more as there were processes."""
    if job.world.size == 1:
        return job
    parts = min(job.config.training.gradient_accumulation_steps * job.world.size, job.config.training.batch_size)
    return replace(job, world=ALONE, config=job.config.replace({"training.gradient_accumulation_steps": parts}))


def with_common_statistics(model: Segmenter, device: torch.device) -> Segmenter:
    """The model with batch normalization over the images of all processes.

    Raises InvalidArgumentError on another device than CUDA, for which PyTorch has none.
    """
    if device.type != "cuda":
        raise InvalidArgumentError(
            f"training.sync_batch_norm is GPU only in PyTorch, and this run is on {device}; set it to false, or take "
            f"--set network.normalization=group, which is the same over any number of processes."
        )
    synchronized: Segmenter = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return synchronized
