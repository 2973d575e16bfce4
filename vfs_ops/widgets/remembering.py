"""An extractor that remembers the feature maps of the last images."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vfs_ops.models.extract import FeatureExtractor

_KEPT: Final = 8


class RememberingExtractor(FeatureExtractor):
    """Gives what another extractor gives, without running the model again on an image it knows.

    Who paints one image again and again waits for the search alone. Safe in many threads.

    Parameters
    ----------
    extractor
        What computes.
    """

    def __init__(self, extractor: FeatureExtractor) -> None:
        self.model, self.infos, self.specs = extractor.model, extractor.infos, extractor.specs
        self.preprocessing, self.precision = extractor.preprocessing, extractor.precision
        self.device = extractor.device
        self._extractor, self._lock = extractor, threading.Lock()
        self._known: OrderedDict[bytes, list[NDArray[np.float32]]] = OrderedDict()

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Bring a decoded image to the model's input size; see `FeatureExtractor.prepare`."""
        return self._extractor.prepare(image)

    def features(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Return the feature maps of a batch; see `FeatureExtractor.features`."""
        key = hashlib.sha256(pixels.tobytes()).digest()
        with self._lock:
            if key not in self._known:
                self._known[key] = self._extractor.features(pixels)
                if len(self._known) > _KEPT:
                    self._known.popitem(last=False)
            self._known.move_to_end(key)
            return self._known[key]

    def layer_number(self, extractor_id: str) -> int | None:
        """Return which layer has this extractor id, if any."""
        ids: list[Any] = [spec.id for spec in self.specs]
        return ids.index(extractor_id) if extractor_id in ids else None
