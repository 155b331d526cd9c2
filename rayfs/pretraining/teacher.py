"""The generation before: a trained backbone and its heads, from a checkpoint of ours or of the released codes."""

import numpy as np
import torch
from torch import Tensor

from rayfs.backbones.checkpoints import load_checkpoint, read_heads
from rayfs.backbones.packaged import find_checkpoint
from rayfs.backbones.registry import create_backbone, n_features
from rayfs.benchmarks.augmentation import normalize, plain_view
from rayfs.benchmarks.registry import Benchmark
from rayfs.benchmarks.tables import ImageTable
from rayfs.errors import InputError
from rayfs.pretraining.cross_entropy import CrossEntropy
from rayfs.pretraining.ier_gen0 import IerGen0
from rayfs.pretraining.objective import Networks, accuracy
from rayfs.randomness import torch_generator

CLASSIFIERS = ("classifier", "fc", "head", "linear", "cls_classifier")
"""What codes call the classifier over the base classes."""

MIN_OVER_CHANCE = 3.0
"""How often better than chance a teacher has to classify base images to be believed."""

CHECKED_IMAGES = 1024


def load_teacher(path: str, objective: str, backbone: str, benchmark: Benchmark, base: ImageTable) -> Networks:
    """Return the teacher of `objective` at `path`, in eval mode, without gradients, on the CPU.

    Raises:
        InputError: the checkpoint is of another architecture, or lacks a head that the objective distils from.
    """
    generator = torch_generator(0, "teacher")
    module = create_backbone(backbone, benchmark.channels, benchmark.image_size, generator)
    try:
        found = find_checkpoint(path)
        load_checkpoint(found, module)
        heads = read_heads(found, module)
    except InputError as error:
        raise InputError(f"--teacher: {error}; a teacher has the --backbone of its student ({backbone})") from None
    n_classes = len(base.class_names)
    if objective == "ier-distill":
        networks = IerGen0(module, benchmark, n_classes, 1, 0.0, 1, 0.0, 1.0, generator=generator).networks
    else:
        networks = CrossEntropy(module, benchmark, n_classes, False, generator=generator).networks
    for name, head in networks.heads.items():
        _load_head(name, head, heads, path, n_features(module), objective)
    return networks.eval().requires_grad_(False)


@torch.no_grad()
def teacher_accuracy(networks: Networks, path: str, benchmark: Benchmark, base: ImageTable) -> float:
    """Return the fraction of some base images that the teacher classifies correctly.

    Raises:
        InputError: hardly more than chance: it knows other classes, or these in another order.
    """
    rows = np.linspace(0, len(base) - 1, min(CHECKED_IMAGES, len(base))).astype(np.int64)
    images = normalize(plain_view(base.take(rows)), benchmark.mean, benchmark.std)
    found = accuracy(networks(images)["classifier"], torch.from_numpy(base.labels[rows])).item()
    if found * len(base.class_names) < MIN_OVER_CHANCE:
        raise InputError(
            f"--teacher {path} classifies {100 * found:.1f}% of {len(rows)} base images of {benchmark.name} right, and "
            f"chance is {100 / len(base.class_names):.1f}%; it was trained on other classes, or on these in another "
            "order than that of their sorted names"
        )
    return found


def _load_head(
    name: str, head: torch.nn.Module, given: dict[str, Tensor], path: str, n_inputs: int, objective: str
) -> None:
    names = CLASSIFIERS if name == "classifier" else (name,)
    expected = head.state_dict()
    for candidate in names:
        found = {key: given.get(f"{candidate}.{key}") for key in expected}
        if all(value is not None and value.shape == expected[key].shape for key, value in found.items()):
            head.load_state_dict(found)
            return
    shapes = ", ".join(f"{key} {tuple(value.shape)}" for key, value in sorted(given.items())) or "none"
    wanted = ", ".join(f"{name}.{key} {tuple(value.shape)}" for key, value in expected.items())
    raise InputError(
        f"--teacher {path}: --objective {objective} distils from the head {wanted}; the file's heads: {shapes}. Give "
        "the checkpoint of the generation before, trained on the same base classes"
    )
