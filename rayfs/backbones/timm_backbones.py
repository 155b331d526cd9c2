"""Any model of the `timm` library as a backbone, by its name there. timm is an extra: pip install 'rayfs[timm]'."""

import difflib
from types import ModuleType
from typing import Any

import torch
from torch import nn

from rayfs.backbones.global_draws import global_draws_from
from rayfs.errors import InputError


def timm_backbone(name: str, in_channels: int, image_size: int, generator: torch.Generator) -> nn.Module:
    """Return the timm model `name` without its classifier, with fresh weights and `n_features`.

    Tensors keep timm's names, so its published checkpoints, downloaded as files, load with `load_checkpoint`; nothing
    is downloaded here. Models made for one image size (the vision transformers) are built for `image_size`, and then
    need checkpoints of that size; where their patches do not divide it, they leave out the last rows and columns (4 of
    84 pixels with patches of 16).

    Deviation: the dropout and stochastic depth that some models have by default (Swin, for one) are off, because they
    would draw from the global random state.

    Arguments:
        in_channels: C of the images.
        image_size: H and W of the images; one image of zeros is run through the model to measure its features.
        generator: source of the initial weights, on the CPU.

    Raises InputError where timm is not installed, does not know the name, or cannot build the model for such images.
    """
    timm = _import_timm(name)
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=5)
        hint = f"did you mean: {', '.join(near)}?" if near else "timm.list_models() lists its names"
        raise InputError(f"backbone 'timm:{name}' is not a model of timm {timm.__version__}; {hint}")
    try:
        with global_draws_from(generator):
            model: Any = _create(timm, name, in_channels, image_size)
            switch_off_dropout(model)
            model.n_features = _measure_features(model, in_channels, image_size)
    except Exception as error:  # Each of a thousand models refuses what does not suit it in its own way.
        reason = (str(error).splitlines() or [""])[0][:200]
        raise InputError(
            f"timm cannot build backbone 'timm:{name}' for {image_size} x {image_size} images with {in_channels} "
            f"channel(s) ({type(error).__name__}: {reason}); choose another image size or another backbone"
        ) from error
    without_head: nn.Module = model
    return without_head


def switch_off_dropout(model: nn.Module) -> None:
    """Set every rate of dropout and of stochastic depth inside a timm model to 0."""
    for module in model.modules():
        for rate in ("p", "drop_prob", "drop_rate"):
            if isinstance(getattr(module, rate, None), float):
                setattr(module, rate, 0.0)


def _import_timm(name: str) -> ModuleType:
    try:
        import timm
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise InputError(
            f"backbone 'timm:{name}' needs timm, which is not installed; run: pip install 'rayfs[timm]'"
        ) from error
    module: ModuleType = timm
    return module


def _create(timm: ModuleType, name: str, in_channels: int, image_size: int) -> nn.Module:
    """Return the model, for `image_size` where it takes one: timm has no list of those that do."""
    model: nn.Module
    try:
        model = timm.create_model(name, pretrained=False, num_classes=0, in_chans=in_channels, img_size=image_size)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        model = timm.create_model(name, pretrained=False, num_classes=0, in_chans=in_channels)
    return model


def _measure_features(model: nn.Module, in_channels: int, image_size: int) -> int:
    """Return D. Measured, because timm's `num_features` leaves out the layers that some models have after the pool."""
    model.eval()
    with torch.no_grad():
        features = model(torch.zeros(1, in_channels, image_size, image_size))
    model.train()
    if not isinstance(features, torch.Tensor) or features.ndim != 2:
        shape = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
        raise ValueError(f"its output is {shape}, not one feature vector an image")
    return features.shape[1]
