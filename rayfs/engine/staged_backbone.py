"""The frozen backbone as every worker is told of it."""

from dataclasses import dataclass
from pathlib import Path

import torch

from rayfs.backbones.checkpoints import load_checkpoint
from rayfs.backbones.registry import create_backbone
from rayfs.backbones.split import split
from rayfs.cache import touch
from rayfs.engine.process import configure_process
from rayfs.errors import InputError
from rayfs.randomness import torch_generator


@dataclass(frozen=True, kw_only=True)
class StagedBackbone:
    """Everything an actor needs to have the backbone; small and plain, so that a restarted actor has it, too."""

    name: str
    channels: int
    image_size: int
    checkpoint: str
    """A file in the cache that every node can read."""
    state_hash: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    n_blocks: int | None = None
    """Load only the first blocks, which give activations in place of features; None: all of it."""

    def load(self, device: torch.device) -> torch.nn.Module:
        """Return the frozen backbone, or its first blocks, in eval mode on `device`.

        Raises:
            InputError: this backbone has no first blocks that could stand alone.
        """
        module = create_backbone(self.name, self.channels, self.image_size, torch_generator(0, "backbone"))
        load_checkpoint(self.checkpoint, module)
        touch(Path(self.checkpoint))
        module = module.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        return module if self.n_blocks is None else split(module, self.n_blocks)[0]

    def load_in_actor(self, gpu: bool) -> torch.nn.Module:
        """Prepare an actor's process, and return its backbone, on the GPU if `gpu`.

        Raises:
            InputError: Ray gave the actor a GPU that its torch cannot use.
        """
        if gpu and not torch.cuda.is_available():
            raise InputError("Ray offers a GPU but this torch has no CUDA; keep to the CPU or install its CUDA build")
        configure_process(1)
        return self.load(torch.device("cuda" if gpu else "cpu"))
