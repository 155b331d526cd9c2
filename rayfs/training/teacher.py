"""The generation before: a trained backbone and its heads, from a checkpoint of ours or of the released codes."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rayfs.backbones.checkpoints import load_checkpoint, read_heads, save_checkpoint
from rayfs.backbones.packaged import find_checkpoint
from rayfs.backbones.registry import create_backbone, n_features
from rayfs.backbones.state import state_hash
from rayfs.datasets.augmentation import normalize, plain_view
from rayfs.datasets.image_table import ImageTable
from rayfs.datasets.registry import Benchmark
from rayfs.errors import InputError
from rayfs.randomness import torch_generator
from rayfs.training.cross_entropy import CrossEntropy
from rayfs.training.ier_gen0 import IerGen0
from rayfs.training.objective import Networks, accuracy

CLASSIFIER_NAMES = ("classifier", "fc", "head", "linear", "cls_classifier")
"""What codes call the classifier over the base classes."""

MIN_OVER_CHANCE = 3.0
"""How often better than chance a teacher has to be on base images to be believed; half way to certainty is enough."""

CHECKED_IMAGES, CHECKED_BATCH = 1024, 128


def load_teacher(
    path: str, objective: str, backbone: str, benchmark: Benchmark, n_classes: int
) -> tuple[Networks, str]:
    """Return the teacher of `objective` at `path`, frozen, on the CPU, and one line about what was used of the file.

    Arguments:
        path: a file, or the name of a checkpoint in the package.
        backbone: of the student; the teacher has the same.

    Raises:
        InputError: the checkpoint is of another architecture, or lacks a head that the objective distils from.
    """
    generator = torch_generator(0, "teacher")
    module = create_backbone(backbone, benchmark.channels, benchmark.image_size, generator)
    found = find_checkpoint(path)
    if not found.exists():
        raise InputError(f"--teacher {path} does not exist; give a file, or the name of a checkpoint in the package")
    try:
        report = load_checkpoint(found, module, backbone)
        given = read_heads(found, module)
    except InputError as error:
        raise InputError(f"--teacher: {error}; a teacher has the --backbone of its student ({backbone})") from None
    if objective == "ier-distill":
        networks = IerGen0(module, benchmark, n_classes, 1, 0.0, 1, 0.0, 1.0, generator=generator).networks
    else:
        networks = CrossEntropy(module, benchmark, n_classes, False, generator=generator).networks
    used = [
        name
        for head, layers in networks.heads.items()
        for name in _load_head(head, layers, given, path, n_features(module), objective)
    ]
    unused = sorted(given.keys() - set(used))
    told = f"{report.n_tensors} tensors of {path}, and its {', '.join(used)}"
    return networks.eval().requires_grad_(False), told + (f"; left out {', '.join(unused)}" if unused else "")


def stage_teacher(networks: Networks, backbone: str, cache_dir: Path) -> tuple[Path, str]:
    """Put a teacher where every worker finds it; returns the file and the hash of all its weights."""
    found = state_hash(networks)
    path = cache_dir / "teachers" / f"{backbone.replace('/', '_')}-{found}.safetensors"
    if not path.with_suffix(".json").exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(path, networks.backbone, {"backbone": backbone}, networks.heads.state_dict())
    return path, found


def load_staged_teacher(
    path: Path, objective: str, backbone: str, benchmark: Benchmark, base: ImageTable, wanted_hash: str | None
) -> Networks:
    """Return the teacher that `stage_teacher` put at `path`.

    Raises:
        InputError: the file is not in this machine's cache, or is another one.
    """
    networks, _ = load_teacher(str(path), objective, backbone, benchmark, len(base.class_names))
    if state_hash(networks) != wanted_hash:
        raise InputError(f"{path} is not the teacher it was; remove it and run the command again")
    return networks


@torch.no_grad()
def teacher_accuracy(networks: Networks, name: str, benchmark: Benchmark, base: ImageTable) -> float:
    """Return the fraction of up to 1,024 base images that the teacher classifies correctly.

    Raises:
        InputError: hardly more than chance: it knows other classes, or these in another order.
    """
    rows = np.unique(np.linspace(0, len(base) - 1, CHECKED_IMAGES).astype(np.int64))
    right = 0.0
    for start in range(0, len(rows), CHECKED_BATCH):
        part = rows[start : start + CHECKED_BATCH]
        images = normalize(plain_view(base.take(part)), benchmark.mean, benchmark.std)
        right += len(part) * accuracy(networks(images)["classifier"], torch.from_numpy(base.labels[part])).item()
    found, chance = right / len(rows), 1 / len(base.class_names)
    if found < min(MIN_OVER_CHANCE * chance, (1 + chance) / 2):
        raise InputError(
            f"--teacher {name} classifies {100 * found:.1f}% of {len(rows)} base images of {benchmark.name} right, and "
            f"chance is {100 * chance:.1f}%; it was trained on other classes, or on these in another order than that "
            "of their sorted names"
        )
    return found


def _load_head(
    name: str, head: nn.Module, given: dict[str, Tensor], path: str, n_inputs: int, objective: str
) -> list[str]:
    """Load a head from the tensors `given`; returns their names."""
    expected = head.state_dict()
    for candidate in CLASSIFIER_NAMES if name == "classifier" else (name,):
        found = {key: given.get(f"{candidate}.{key}") for key in expected}
        if all(value is not None and value.shape == expected[key].shape for key, value in found.items()):
            head.load_state_dict(found)
            return [f"{candidate}.{key}" for key in expected]
    shapes = ", ".join(f"{key} {tuple(value.shape)}" for key, value in sorted(given.items())) or "none"
    wanted = ", ".join(f"{name}.{key} {tuple(value.shape)}" for key, value in expected.items())
    raise InputError(
        f"--teacher {path}: --objective {objective} distils from the head {wanted}; the file's heads: {shapes}. Give "
        "the checkpoint of the generation before, trained on the same base classes"
    )
