"""What is taken for which source, and where its images are."""

from pathlib import Path

import numpy as np
import pytest

from vfs_ops.datasets import sources
from vfs_ops.datasets.folders import FolderSource
from vfs_ops.datasets.objects import ObjectSource
from vfs_ops.datasets.source_kinds import as_source
from vfs_ops.datasets.sources import Place
from vfs_ops.datasets.tables import TableSource
from vfs_ops.datasets.tars import TarSource
from vfs_ops.errors import (
    ImageError,
    SourceError,
)


def test_as_source() -> None:
    assert as_source("photos") == FolderSource("photos")
    assert as_source(Path("a/t.CSV")) == TableSource("a/t.CSV")
    assert as_source("s3://b/x.tar") == TarSource("s3://b/x.tar")
    assert isinstance(as_source("torchvision:FakeData"), ObjectSource)
    for wrong in (5, b"bytes", {"a": 1}, np.zeros(3)):
        with pytest.raises(SourceError, match="no source of images"):
            as_source(wrong)


def test_relative_places_need_a_root() -> None:
    with pytest.raises(SourceError, match="say in which folder"):
        sources.Files(None).fetch(Place("a.png"))
    with pytest.raises(ImageError, match="at most"):
        sources.Files(None).fetch(Place("a.png", sources.MAX_BYTES + 1))
