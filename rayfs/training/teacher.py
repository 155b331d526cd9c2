"""Trained networks to learn from: a backbone and its heads, from a checkpoint of ours or of the released codes.

A teacher may have another backbone than its student, other heads and other classes: the objective says what it demands
(`objectives/definition.py`), and what it demands is checked here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from rayfs.backbones.checkpoints import load_checkpoint, read_heads, save_checkpoint
from rayfs.backbones.packaged import find_checkpoint
from rayfs.backbones.registry import create_backbone, n_features
from rayfs.backbones.state import state_hash
from rayfs.datasets.registry import Benchmark
from rayfs.errors import InputError
from rayfs.randomness import torch_generator
from rayfs.training.heads import head_from_tensors, head_shape
from rayfs.training.objective import Networks
from rayfs.training.objectives.definition import ANY_NUMBER, BASE_CLASSES, ObjectiveDefinition, TeacherDemand

CLASSIFIER_NAMES = ("classifier", "fc", "head", "linear", "cls_classifier")
"""What codes call the classifier over the base classes."""


@dataclass(frozen=True, kw_only=True)
class LoadedTeacher:
    """A teacher, and where it came from."""

    networks: Networks
    """Frozen, in evaluation, on the CPU."""
    report: str
    """One line about what was used of the file."""


def load_teacher(
    path: str, definition: ObjectiveDefinition, backbone: str, benchmark: Benchmark, n_classes: int
) -> LoadedTeacher:
    """Return the teacher at `path` with the heads that the objective demands.

    Arguments:
        path: a file, or the name of a checkpoint in the package.
        backbone: of the teacher.
        n_classes: base classes.

    Raises:
        InputError: the checkpoint is of another architecture, or lacks a head that the objective demands.
    """
    demand = demanded(definition)
    module = create_backbone(backbone, benchmark.channels, benchmark.image_size, torch_generator(0, "teacher"))
    found = find_checkpoint(path)
    if not found.exists():
        raise InputError(f"--teacher {path} does not exist; give a file, or the name of a checkpoint in the package")
    try:
        report = load_checkpoint(found, module, backbone)
        given = read_heads(found, module)
    except InputError as error:
        raise InputError(
            f"--teacher: {error}; --teacher-backbone says which backbone a teacher has, without it {backbone} is taken"
        ) from None
    heads: dict[str, nn.Module] = {}
    used: list[str] = []
    for name, outputs in demand.heads.items():
        wanted = n_classes if outputs == BASE_CLASSES else outputs
        heads[name], names = _find_head(name, wanted, given, path, n_features(module), definition.name)
        used += names
    unused = sorted(given.keys() - set(used))
    told = f"{report.n_tensors} tensors of {path}"
    told += f", and its {', '.join(used)}" if used else ""
    told += f"; left out {', '.join(unused)}" if unused else ""
    return LoadedTeacher(networks=frozen(Networks(module, heads)), report=told)


def demanded(definition: ObjectiveDefinition) -> TeacherDemand:
    """Return what an objective that has a teacher demands of it."""
    assert definition.teacher is not None, f"{definition.name} has no teacher: the settings are resolved"
    return definition.teacher


def refuse_unfit(definition: ObjectiveDefinition, teacher: str, student: str, benchmark: Benchmark) -> None:
    """Refuse a pair of backbones that the objective cannot compare, before either is trained.

    Raises:
        InputError: the student is to be a copy of another backbone, or the features to be compared differ in number.
    """
    demand = demanded(definition)
    if teacher == student:
        return
    if demand.copied:
        raise InputError(
            f"--objective {definition.name} starts from a copy of its teacher, but --teacher-backbone is {teacher} and "
            f"--backbone {student}; drop --teacher-backbone, or give --backbone {teacher}"
        )
    if demand.same_features:
        widths = [
            n_features(create_backbone(name, benchmark.channels, benchmark.image_size, torch_generator(0, "width")))
            for name in (teacher, student)
        ]
        if widths[0] != widths[1]:
            raise InputError(
                f"--objective {definition.name} compares the student's features with the teacher's, but --backbone "
                f"{student} has {widths[1]} and --teacher-backbone {teacher} has {widths[0]}; choose two with equally "
                "many"
            )


def stage_teacher(networks: Networks, backbone: str, cache_dir: Path) -> tuple[Path, str]:
    """Put a teacher where every worker finds it; returns the file and the hash of all its weights."""
    found = state_hash(networks)
    path = cache_dir / "teachers" / f"{backbone.replace('/', '_')}-{found}.safetensors"
    if not path.with_suffix(".json").exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(path, networks.backbone, {"backbone": backbone}, networks.heads.state_dict())
    return path, found


def load_staged_teacher(
    path: Path,
    definition: ObjectiveDefinition,
    backbone: str,
    benchmark: Benchmark,
    n_classes: int,
    wanted_hash: str | None,
) -> Networks:
    """Return the teacher that `stage_teacher` put at `path`; arguments as `load_teacher` has them.

    Raises:
        InputError: the file is not in this machine's cache, or is another one.
    """
    networks = load_teacher(str(path), definition, backbone, benchmark, n_classes).networks
    if state_hash(networks) != wanted_hash:
        raise InputError(f"{path} is not the teacher it was; remove it and run the command again")
    return networks


def frozen(teacher: Networks) -> Networks:
    """Return `teacher` itself, in evaluation and without gradients; as no part of `networks` it stays so."""
    return teacher.eval().requires_grad_(False)


def answers(teacher: Networks, views: Tensor) -> dict[str, Tensor]:
    """Return all outputs of `teacher` for `views`, without gradients; it follows the views to their device."""
    with torch.no_grad():
        outputs: dict[str, Tensor] = teacher.to(views.device)(views)
    return outputs


def _find_head(
    name: str, wanted: int | str, given: Mapping[str, Tensor], path: str, n_inputs: int, objective: str
) -> tuple[nn.Module, list[str]]:
    """Return a head of the file, with the names of its tensors there."""
    for candidate in CLASSIFIER_NAMES if name == "classifier" else (name,):
        prefix = f"{candidate}."
        tensors = {key.removeprefix(prefix): value for key, value in given.items() if key.startswith(prefix)}
        head = head_from_tensors(tensors) if tensors else None
        if head is not None:
            inputs, outputs = head_shape(tensors)
            if inputs == n_inputs and wanted in (outputs, ANY_NUMBER):
                return head, [f"{prefix}{key}" for key in head.state_dict()]
    shapes = ", ".join(f"{key} {tuple(value.shape)}" for key, value in sorted(given.items())) or "none"
    raise InputError(
        f"--teacher {path}: --objective {objective} distils from the head {name} with {n_inputs} inputs and {wanted} "
        f"outputs; the file's heads: {shapes}. Give the checkpoint of the generation before, trained on the same base "
        "classes"
    )
