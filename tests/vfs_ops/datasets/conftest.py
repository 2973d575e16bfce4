"""Fixtures of tests of datasets."""

from pathlib import Path

import pytest
from makers import write_photos

from vfs_ops.datasets import ingestion


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", 12)
    return tmp_path / "photos"


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingestion, "BATCH_ROWS", 4)
    monkeypatch.setattr(ingestion, "PACK_IMAGES", 5)
