"""The trainer: the model, the optimizer, the data and one training step."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import record_function

from pixelwise.config import Config
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array
from pixelwise.data.loader import Batch, Batches, SampleCache
from pixelwise.data.rare_classes import RareClassSampler
from pixelwise.data.sample import Sample, Splits
from pixelwise.data.unet_weight_map import border_weights
from pixelwise.devices import (
    Precision,
    are_threads_chosen_by_user,
    get_random_state,
    keep_freed_memory,
    set_random_state,
    use_threads,
)
from pixelwise.errors import CheckpointError, InvalidArgumentError
from pixelwise.import_paths import load_import_path
from pixelwise.inference.predictor import Predictor, make_predictor
from pixelwise.losses import build_loss
from pixelwise.lowering.graph import explain_compile_errors
from pixelwise.model_file import ModelSpec
from pixelwise.networks import Segmenter
from pixelwise.networks.stages import (
    compute_learning_rate_scales,
    enable_activation_checkpointing,
    get_encoder_stages,
    get_first_stages,
)
from pixelwise.networks.summary import count_gflops
from pixelwise.training.checkpoint import Checkpoint
from pixelwise.training.distributed import SINGLE_PROCESS, World, explain_lost_process
from pixelwise.training.fsdp import gather_state, shard_model, shard_optimizer_state, shard_state_like
from pixelwise.training.gradient_accumulation import accumulate_gradients, is_mean_over_pixels
from pixelwise.training.optimizers import (
    AveragedWeights,
    build_optimizer,
    clip_gradients,
    compute_lr_factor,
    set_learning_rate,
)

PHASES = ("forward", "loss", "backward", "optimizer", "averaged weights")
"""Names of the parts of a step in a profile."""

MIN_GFLOPS = 1.5
"""Smallest forward pass that is divided among threads. Below, a second thread gains at most a tenth. Where another
program takes a core from one of them, the threads lose most of their speed, because they wait for each other hundreds
of times a step (`benchmarks/busy.py`)."""


class Trainer:
    """The state of a run and the step that changes it; the same on every process.

    The planner times the step of this class.

    Args:
        config: the full configuration.
        dataset: the dataset, scanned.
        splits: samples of each split.
        spec: description of the model, as stored in its file.
        class_weights: weight of each class in the loss; None: 1.
        rare_classes: draws some samples for rare classes; None: all are drawn uniformly.
        device: device to train on.
        world: the processes that train together, each on its part of every batch.
        initial_weights: state dict of the network; None: random weights.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        splits: Splits,
        spec: ModelSpec,
        *,
        class_weights: tuple[float, ...] | None = None,
        rare_classes: RareClassSampler | None = None,
        device: torch.device,
        world: World = SINGLE_PROCESS,
        initial_weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.arguments: dict[str, Any] = {name: value for name, value in locals().items() if name != "self"}
        self.config, self.dataset, self.splits, self.spec = config, dataset, splits, spec
        self.device, self.world = device, world
        self.num_steps = self.num_evaluations_done = 0
        self.best_score, self.seconds_before = -1.0, 0.0
        self.num_accumulation_steps = config.training.gradient_accumulation_steps
        torch.manual_seed(config.training.seed)
        if device.type == "cpu":
            keep_freed_memory()
        model = spec.build()
        if initial_weights:
            model.network.load_state_dict(initial_weights)
        if config.training.sync_batch_norm:
            model = synchronize_batch_norm(model, device)
        if config.training.activation_checkpointing:
            enable_activation_checkpointing(model.network)
        self.is_sharded = config.training.sharding == "fsdp" and world.size > 1
        if self.is_sharded:
            shard_model(model, device)  # FSDP has no shards of channels-last weights
        else:
            model = model.to(device).to(memory_format=torch.channels_last)
        self.model: Segmenter = model
        self.frozen = get_first_stages(model.network, config.optimizer.freeze_stages)
        for module in self.frozen:
            module.requires_grad_(False)
        scales = compute_learning_rate_scales(model.network, config.optimizer.layer_decay)
        encoder = [p for stage in get_encoder_stages(model.network) for module in stage for p in module.parameters()]
        self.optimizer = build_optimizer(model, config.optimizer, config.training.precision, scales, encoder)
        self.average = AveragedWeights(model, config.optimizer.ema)
        if config.training.compile:
            model.compile(dynamic=False)  # there are few sizes, and code for one size is faster
        self.wrapped_model = model if self.is_sharded else world.replicate(model)
        self.class_weights = torch.tensor(class_weights, device=device) if class_weights else None
        self.loss = build_loss(config.loss)
        augment = config.augmentation.function
        self.batches = Batches(
            cache=SampleCache(dataset, config.data.cache_gib * 2**30),
            samples=splits.get("train", ()),
            augmentation=config.augmentation,
            crop_size=config.data.crop_size,
            batch_size=config.training.batch_size,
            seed=config.training.seed,
            rank=world.rank,
            world_size=world.size,
            rare_classes=rare_classes,
            augment=load_import_path(augment, "augmentation.function") if augment else None,
            compute_pixel_weights=self._make_border_weights() if config.loss.border_weight else None,
            pin_memory=device.type == "cuda",
        )
        self._gathered: dict[str, Any] | None = None

    @cached_property
    def val_samples(self) -> list[Sample]:
        """The validation samples to score."""
        return draw_val_samples(self.config, self.splits)

    @property
    def has_free_threads(self) -> bool:
        """True if the number of threads is for us to choose."""
        is_alone_on_cpu = self.device.type == "cpu" and self.world.size == 1
        return is_alone_on_cpu and torch.get_num_threads() > 1 and not are_threads_chosen_by_user()

    @cached_property
    def num_threads(self) -> int:
        """The threads of a step on the CPU.

        They depend on the config and on the processors, not on the load: sums over more threads round differently, and
        a run must be repeatable. Only a run that the clock ends changes them (`ThreadChooser`).
        """
        threads, config = torch.get_num_threads(), self.config
        if not self.has_free_threads:
            return threads
        part = -(-config.training.batch_size // config.training.gradient_accumulation_steps)
        gflops = count_gflops(self.model, (part, self.spec.channels, *config.data.crop_size))
        return threads if gflops >= MIN_GFLOPS else 1

    @cached_property
    def evaluation_samples(self) -> list[Sample]:
        """The validation samples to score at each evaluation during the run."""
        return space_evenly(self.val_samples, self.config.training.images_per_evaluation)

    def _make_border_weights(self) -> Callable[[Array], Array]:
        """Return U-Net's border weights as a function of a label map."""
        loss, class_weights = self.config.loss, self.arguments["class_weights"]
        # The paper adds the border weight to the class weight; the loss multiplies the two.
        w0 = loss.border_weight / (class_weights[0] if class_weights else 1.0)
        return partial(border_weights, ignore_index=self.spec.classes.ignore_index, w0=w0, sigma=loss.border_sigma)

    def rebuild(self, **changes: Any) -> "Trainer":
        """Return a new trainer of this run, without any step taken, with changed constructor arguments."""
        return Trainer(**{**self.arguments, **changes})

    def rebuild_single(self) -> "Trainer":
        """Return a new trainer in this process only, which divides whole batches into as many parts as processes.

        With one process, return this trainer.
        """
        if self.world.size == 1:
            return self
        parts = min(self.num_accumulation_steps * self.world.size, self.config.training.batch_size)
        config = self.config.replace({"training.gradient_accumulation_steps": parts})
        return self.rebuild(world=SINGLE_PROCESS, config=config)

    def step(self, batch: Batch, progress: float) -> Tensor:
        """Update the weights once; return the loss without waiting for it."""
        config, self._gathered = self.config, None
        self.model.train()
        for module in self.frozen:
            module.eval()  # batch statistics do not change either
        set_learning_rate(self.optimizer, config.optimizer.lr * compute_lr_factor(progress, config.schedule))
        self.optimizer.zero_grad()
        with use_threads(self.num_threads), explain_lost_process(), explain_compile_errors():
            loss = accumulate_gradients(
                self.wrapped_model,
                batch.to(self.device).chunk(self.num_accumulation_steps),
                self.compute_loss,
                config.training.precision,
                ignore_index=self.spec.classes.ignore_index if is_mean_over_pixels(config.loss) else None,
                world=self.world,
            )
        with use_threads(self.num_threads), record_function("optimizer"), explain_lost_process():
            if config.optimizer.clip_norm:
                clip_gradients(self.model.parameters(), config.optimizer.clip_norm)
            self.optimizer.step()
        return loss

    def compute_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Compute the loss of logits (B, K, H, W)."""
        return self.loss(
            logits,
            batch.labels,
            ignore_index=self.spec.classes.ignore_index,
            class_weights=self.class_weights,
            pixel_weights=batch.pixel_weights,
        )

    def update_average(self, step: int, progress_of_step: float) -> None:
        """Update the averaged weights after step `step`, which took `progress_of_step` of the run."""
        self._gathered = None
        with use_threads(self.num_threads), record_function("averaged weights"):
            self.average.update(self.model, step, progress_of_step)

    def state(self) -> dict[str, Any]:
        """Return what the next step depends on, except the batch. Tensors are not copied: they change with it.

        With sharded weights all processes call it together, and only the first one gets them. Until the next step, the
        first one may call it again without the others.
        """
        tensors: dict[str, Any] = self._gathered or {
            "model": self.model.state_dict(),
            "average": self.average.state,
            "optimizer": self.optimizer.state_dict(),
        }
        if self.is_sharded and self._gathered is None:
            with explain_lost_process():
                tensors = self._gathered = gather_state(tensors, keep=self.world.is_first)
        return {**tensors, "random": get_random_state(self.device), "parts": self.num_accumulation_steps}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Load what `state` returned; hyperparameters such as the weight decay stay those of the config."""
        own = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        self._gathered = None
        self.model.load_state_dict(shard_state_like(state["model"], self.model.state_dict()))
        self.optimizer.load_state_dict(shard_optimizer_state(state["optimizer"], self.optimizer))
        for group, hyperparameters in zip(self.optimizer.param_groups, own, strict=True):
            group.update(hyperparameters)
        average = self.average.state
        loaded = shard_state_like(state["average"], average)
        self.average.state = {name: tensor.to(average[name].device) for name, tensor in loaded.items()}
        self.num_accumulation_steps = max(self.num_accumulation_steps, state["parts"])
        set_random_state(state["random"], self.device)

    def resume_from(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint, as if the run had never stopped.

        Raises:
            CheckpointError: the data or the network differ from those of the checkpoint.
        """
        for name, tensor in self.model.named_buffers(recurse=False):
            stored = checkpoint.model.get(name)
            # The tolerance allows for other versions of image decoders, which round differently.
            is_equal = stored is None or (
                tensor.shape == stored.shape and torch.allclose(tensor.cpu(), stored, rtol=1e-3)
            )
            if not is_equal:
                raise CheckpointError(
                    f"The training images are not those of the checkpoint (their {name} differs). Restore them, or "
                    f"start a new run."
                )
        try:
            self.load_state(checkpoint.state)
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                "The checkpoint does not fit the network of this dataset and config. Restore both, or start a new run."
            ) from error
        self.num_steps, self.num_evaluations_done = checkpoint.step, checkpoint.evaluations
        self.best_score, self.seconds_before = checkpoint.best_score, checkpoint.seconds

    def seed_rank(self) -> None:
        """Draw dropout masks of this rank; call it after the weights are initialized or loaded."""
        seed = np.random.SeedSequence([self.config.training.seed, self.num_steps, self.world.rank])
        torch.manual_seed(int(seed.generate_state(1)[0]))

    def predictor(self, precision: Precision | None = None) -> Predictor:
        """Return a predictor with a copy of the averaged weights; all processes call it together."""
        with torch.random.fork_rng([]):  # building draws weights, which must not change the random state of the run
            module = self.spec.build()
        average = self.state()["average"]
        if self.world.is_first:
            module.load_state_dict(average)
        return self.broadcast_predictor(module, precision or self.config.training.precision)

    def broadcast_predictor(self, module: Segmenter, precision: Precision) -> Predictor:
        """Return a predictor on every process with the first one's weights."""
        if self.world.size > 1:
            module = module.to(self.device)
            self.world.broadcast_tensors(module.state_dict().values())
        return make_predictor(module, self.spec, self.device, precision)


def draw_val_samples(config: Config, splits: Splits) -> list[Sample]:
    """Return the validation samples to score: all, or `data.max_val_images` of them drawn with the seed."""
    samples, limit = splits.get("val", ()), config.data.max_val_images
    count = min(len(samples), limit or len(samples))
    chosen = np.random.default_rng([config.training.seed, 2]).choice(len(samples), count, replace=False)
    return [samples[i] for i in sorted(chosen)]


def space_evenly(samples: Sequence[Sample], count: int | None) -> list[Sample]:
    """Return at most `count` of the samples, evenly spaced; None: all."""
    if count is None or count >= len(samples):
        return list(samples)
    return [samples[i * len(samples) // count] for i in range(count)]


def synchronize_batch_norm(model: Segmenter, device: torch.device) -> Segmenter:
    """Compute batch statistics over the images of all processes.

    Raises:
        InvalidArgumentError: the device is not CUDA, the only one for which PyTorch supports it.
    """
    if device.type != "cuda":
        raise InvalidArgumentError(
            f"training.sync_batch_norm needs GPUs, but this run uses {device}. Set it to false, or use "
            f"--set network.normalization=group, which does not depend on the number of processes."
        )
    synchronized: Segmenter = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return synchronized
