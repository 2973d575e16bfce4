"""Python datasets, such as torchvision's, as dataset sources: no files, images by index."""

from __future__ import annotations

import difflib
import inspect
import operator
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from vfs_ops.datasets.sources import Content, Listing, Place, check_uris
from vfs_ops.errors import ImageError, MissingDependencyError, SourceError
from vfs_ops.images.decoding import decode_pixels, one_line
from vfs_ops.store.failures import storage_errors
from vfs_ops.store.file_stats import FileStat


@runtime_checkable
class Indexed(Protocol):
    """A dataset as torchvision's are: a length, and items by index."""

    def __len__(self) -> int:
        """Return the number of items."""
        ...

    def __getitem__(self, index: int) -> Any:
        """Return an image, or a tuple of which the first is an image and the second its target."""
        ...


@dataclass(frozen=True)
class ObjectSource:
    """Any object with a length whose items are images, or tuples (image, target, …).

    An image is a Pillow image or an array as `images.decode_pixels` takes them. Its content digest
    is of the decoded pixels. An integer target is looked up in the object's ``classes``; text is
    the label as it is; other targets give none. Items are read by one thread at a time.
    """

    items: Indexed
    name: str
    """What the URIs of the images start with: ``NAME#0``."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def listing(self) -> Listing:
        """List the items by index; see `Source.listing`."""
        count = len(self.items)
        if count == 0:
            raise SourceError(f"{self.name} has no items; expected one per image")
        uris = [f"{self.name}#{index}" for index in range(count)]
        check_uris(uris[-1:])
        table = pa.table(
            {
                "uri": pa.array(uris, pa.string()),
                "label": pa.nulls(count, pa.string()),  # told with the image
                "bytes": pa.nulls(count, pa.int64()),
            }
        )
        tokens = pa.array([""] * count, pa.string())  # nothing tells whether an item has changed
        return Listing(table, tokens, self, {"kind": "object", "name": self.name})

    def stat(self, place: Place) -> FileStat:
        """Return that nothing is known of an item before it is read."""
        return FileStat(place.uri, 0, "")

    def fetch(self, place: Place) -> Content:
        """Return one item; see `Reader.fetch`."""
        index = int(place.uri.rpartition("#")[2])
        with storage_errors(place.uri), self.lock:
            item = _item(self.items, index)
        image, target = item, None
        if isinstance(item, tuple):
            image, target = (*item, None, None)[:2]
        if not isinstance(image, Image.Image | np.ndarray):
            raise SourceError(
                f"{place.uri} is a {type(image).__name__}; expected a Pillow image or an array; "
                "make the dataset without transforms"
            )
        return Content(decode_pixels(image), _label(self.items, target))


def torchvision_source(
    name: str,
    root: str | Path = "data",
    *,
    split: str | None = None,
    download: bool = False,
) -> ObjectSource:
    """Return one of torchvision's datasets as a source.

    Parameters
    ----------
    name
        Of a class in ``torchvision.datasets``: ``CIFAR10``.
    root
        Local folder that the dataset is in, as its class expects it.
    split
        What the class calls ``split``; where it has a flag ``train`` instead, ``"train"`` or
        ``"test"``. By default the class's own.
    download
        Let torchvision download what is not in `root`.

    Raises
    ------
    SourceError
        If there is no such dataset or split, or it is not in `root`.
    MissingDependencyError
        If the dataset needs another package.
    """
    from torchvision import datasets

    if name not in datasets.__all__ or not isinstance(getattr(datasets, name), type):
        close = difflib.get_close_matches(name, datasets.__all__, 3) or datasets.__all__[:10]
        raise SourceError(f"torchvision has no dataset {name!r}; did you mean {', '.join(close)}?")
    cls = getattr(datasets, name)
    known = inspect.signature(cls).parameters
    options: dict[str, Any] = {"root": Path(root).expanduser(), "download": True}
    if not download:
        del options["download"]
    if split is not None:
        if "split" not in known and ("train" not in known or split not in ("train", "test")):
            raise SourceError(f"torchvision's {name} has no split {split!r}; see its documentation")
        options |= {"split": split, "train": split == "train"}
    if "split" in known:
        options.pop("train", None)
    try:
        items = cls(**{key: value for key, value in options.items() if key in known})
    except ImportError as error:
        raise MissingDependencyError(f"torchvision's {name}: {error}; install it") from error
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        raise SourceError(
            f"torchvision cannot open {name} in {root}: {error}; give the right folder, or allow "
            "the download"
        ) from error
    return ObjectSource(items, name if split is None else f"{name}/{split}")


def _item(items: Indexed, index: int) -> Any:
    try:
        return items[index]
    except (UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise ImageError(f"the dataset cannot decode it: {one_line(error)}") from error
    except OSError as error:
        if error.errno is not None:  # of the file system; Pillow's own have none
            raise
        raise ImageError(f"the dataset cannot decode it: {one_line(error)}") from error


def _label(items: Indexed, target: Any) -> str | None:
    if isinstance(target, str):
        return target
    try:
        index = operator.index(target)
    except TypeError:
        return None  # boxes, masks, several targets, none
    classes = getattr(items, "classes", None)
    if isinstance(classes, list | tuple) and 0 <= index < len(classes):
        return str(classes[index])
    return str(index)
