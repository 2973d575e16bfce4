"""Batches of images to feature maps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from vfs_ops.errors import ModelError
from vfs_ops.identity.spec import ExtractorSpec, Precision
from vfs_ops.images.decoding import fit
from vfs_ops.models.forward import check_precision, choose_device, describe, run, threads_of
from vfs_ops.models.layers import LayerInfo, find_layers, pick
from vfs_ops.models.loading import LoadedModel


class FeatureExtractor:
    """Turns images into the feature maps of one or more layers, all in one forward pass.

    Parameters
    ----------
    model
        Its module is moved to the device.
    layers
        Names as `find_layers` takes them.
    precision
        What the model computes in; feature maps are float32 all the same.
    device
        As ``"cpu"`` or ``"cuda:0"``; a GPU if there is one, if None.

    Attributes
    ----------
    model : LoadedModel
    infos : tuple of LayerInfo
        In the order of `layers`, as are all results.
    specs : tuple of ExtractorSpec
        The identity of each layer's extractor.
    preprocessing : Preprocessing
    precision : {"float32", "bfloat16", "float16"}
    device : str
    threads : int or None
        Threads of the CPU that passes are computed with: as many as torch was set to when the
        extractor was made. None on a GPU.
    hardware : str
        What computes; equal text on one host means equal bits.

    Raises
    ------
    ModelError, UnknownModelError, NotAFeatureMapError
        If a layer cannot be used, or the device is not there.
    SpecError
        If the device does not compute in that precision.

    Examples
    --------
    >>> model = load_model("efficientnet-lite0")  # doctest: +SKIP
    >>> extractor = FeatureExtractor(model, ["blocks.4"])  # doctest: +SKIP
    >>> pixels = extractor.prepare(image)  # doctest: +SKIP
    >>> extractor.features(pixels[np.newaxis])[0].shape  # doctest: +SKIP
    (1, 14, 14, 112)
    """

    def __init__(
        self,
        model: LoadedModel,
        layers: Sequence[str],
        *,
        precision: Precision = "float32",
        device: str | None = None,
    ) -> None:
        chosen = choose_device(device)
        check_precision(precision, chosen)
        model.module.to(chosen)
        self.model = model
        self.infos = tuple(find_layers(model, layers))
        self.specs = tuple(_spec(model, info) for info in self.infos)
        self.preprocessing = model.preprocessing
        self.precision: Precision = precision
        self.device = str(chosen)
        self.threads = threads_of(chosen)
        self.hardware = describe(chosen, self.threads)

    def __repr__(self) -> str:
        layers = ", ".join(info.name for info in self.infos)
        return (
            f"<FeatureExtractor: {self.model.reference} ({self.model.weights}), layers {layers}, "
            f"{self.precision} on {self.device}>"
        )

    def with_threads(self, threads: int | None) -> Self:
        """Return the same model, computed with another number of threads of the CPU.

        Who needs the same bits as somebody else keeps the number of threads. Nothing changes on a
        GPU, or if None.
        """
        if threads is None or self.threads is None:
            return self
        other = copy.copy(self)
        other.threads = threads
        other.hardware = describe(torch.device(self.device), threads)
        return other

    def prepare(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Bring a decoded image to the model's input size; safe in many threads.

        Returns
        -------
        numpy.ndarray
            uint8 of shape (height, width, channels).

        Raises
        ------
        ImageError
            If the image is too thin to be resized.
        """
        return fit(image, self.preprocessing)

    def features(self, pixels: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        """Return the feature maps of a batch.

        A row does not depend on the other rows but for the rounding of float32: kernels are
        chosen by the size of the batch. Who needs the same bits keeps the same batches, and the
        number of threads.

        Parameters
        ----------
        pixels
            uint8 of shape (n, height, width, channels), as `prepare` returns each.

        Returns
        -------
        list of numpy.ndarray
            Per layer float32 of shape (n, grid y, grid x, channels), C-contiguous, in memory of
            its own.

        Raises
        ------
        ModelError
            If the pixels have another shape, or the model cannot take them.
        """
        if len(pixels) == 0:
            return [np.empty((0, *info.grid, info.channels), np.float32) for info in self.infos]
        maps: list[torch.Tensor | None] = [None] * len(self.infos)
        hooks: dict[str, Callable[[Any], None]] = {}
        for path in {info.layer for info in self.infos}:
            hooks[path] = self._keeper(path, maps, len(pixels))
        self._run(pixels, hooks)
        return [
            self._to_numpy(info, features) for info, features in zip(self.infos, maps, strict=True)
        ]

    def largest_output(self) -> int:
        """Return the bytes of the largest output of any part of the model, for one image."""
        largest = 0

        def look(output: Any) -> None:
            nonlocal largest
            tensors = output if isinstance(output, list | tuple) else [output]
            sizes = [t.numel() * t.element_size() for t in tensors if isinstance(t, torch.Tensor)]
            largest = max(largest, *sizes, 0)

        parts = dict(self.model.module.named_modules())
        blank = np.zeros((1, *self.preprocessing.input_size, self.preprocessing.channels), np.uint8)
        self._run(blank, dict.fromkeys(parts, look))
        return largest

    def _run(self, pixels: npt.NDArray[np.uint8], hooks: dict[str, Callable[[Any], None]]) -> None:
        module = self.model.module
        run(module, pixels, self.preprocessing, hooks, self.precision, self.threads)

    def _keeper(
        self, path: str, maps: list[torch.Tensor | None], images: int
    ) -> Callable[[Any], None]:
        wanted = [
            (position, info) for position, info in enumerate(self.infos) if info.layer == path
        ]

        def keep(output: Any) -> None:
            for position, info in wanted:
                tensor = pick(output, info.output)
                maps[position] = None if tensor is None else _to_map(tensor, info, images)

        return keep

    def _to_numpy(self, info: LayerInfo, features: torch.Tensor | None) -> npt.NDArray[np.float32]:
        if features is None:
            raise ModelError(
                f"{info.name} of {self.model.reference} did not return a map of "
                f"{info.grid[0]}×{info.grid[1]} cells and {info.channels} channels this time; "
                "expected a model whose shapes do not depend on the image; choose another layer"
            )
        array: npt.NDArray[np.float32] = features.cpu().numpy()
        return array


def _to_map(tensor: torch.Tensor, info: LayerInfo, images: int) -> torch.Tensor | None:
    if info.axes == "nchw" and tensor.ndim == 4:
        tensor = tensor.permute(0, 2, 3, 1)
    elif info.axes == "tokens" and tensor.ndim == 3:
        tokens = tensor[:, info.prefix_tokens :]
        if tokens.shape[1] == info.grid[0] * info.grid[1]:
            tensor = tokens.reshape(images, *info.grid, -1)
    if tuple(tensor.shape) != (images, *info.grid, info.channels):
        return None
    # Always a copy: what follows in the model may work in place on this tensor.
    return tensor.to(torch.float32, memory_format=torch.contiguous_format, copy=True)


def _spec(model: LoadedModel, info: LayerInfo) -> ExtractorSpec:
    return ExtractorSpec(
        model=model.reference,
        weights=model.fingerprint,
        layer=info.layer,
        output=info.output,
        axes=info.axes,
        prefix_tokens=info.prefix_tokens,
        preprocessing=model.preprocessing,
    )
