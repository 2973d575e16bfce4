"""Visual Feature Search: what a vision model's layer considers similar, found exactly.

The names here are loaded when they are first used, so that importing one module of this package
loads neither torch nor Dask.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vfs_ops.builds.builder import build as build
    from vfs_ops.builds.builder import plan_build as plan_build
    from vfs_ops.builds.verification import verify as verify
    from vfs_ops.caches.cache import Cache as Cache
    from vfs_ops.caches.cache import open_cache as open_cache
    from vfs_ops.datasets.dataset import Dataset as Dataset
    from vfs_ops.datasets.dataset import open_dataset as open_dataset
    from vfs_ops.datasets.folders import FolderSource as FolderSource
    from vfs_ops.datasets.ingestion import ingest as ingest
    from vfs_ops.datasets.objects import torchvision_source as torchvision_source
    from vfs_ops.datasets.tables import TableSource as TableSource
    from vfs_ops.datasets.tars import TarSource as TarSource
    from vfs_ops.identity.preprocessing import Preprocessing as Preprocessing
    from vfs_ops.identity.preprocessing import Resize as Resize
    from vfs_ops.models.extract import FeatureExtractor as FeatureExtractor
    from vfs_ops.models.layers import list_layers as list_layers
    from vfs_ops.models.loading import load_model as load_model
    from vfs_ops.overlays.factors import factorise as factorise
    from vfs_ops.overlays.mapped_images import MappedImages as MappedImages
    from vfs_ops.overlays.mapped_images import join_maps as join_maps
    from vfs_ops.overlays.mapped_images import map_images as map_images
    from vfs_ops.overlays.mapped_images import map_rows as map_rows
    from vfs_ops.overlays.similarity import similarity_maps as similarity_maps
    from vfs_ops.overlays.transform_study import study_transforms as study_transforms
    from vfs_ops.overlays.transforms import Transform as Transform
    from vfs_ops.overlays.transforms import rotations as rotations
    from vfs_ops.overlays.transforms import scalings as scalings
    from vfs_ops.scans.comparison import compare as compare
    from vfs_ops.scans.hits import Hits as Hits
    from vfs_ops.scans.null_distribution import null_scores as null_scores
    from vfs_ops.scans.plan import plan_scan as plan_scan
    from vfs_ops.scans.queries import Query as Query
    from vfs_ops.scans.queries import query_from_image as query_from_image
    from vfs_ops.scans.queries import query_from_row as query_from_row
    from vfs_ops.scans.score_arrays import score_images as score_images
    from vfs_ops.scans.score_arrays import score_map as score_map
    from vfs_ops.scans.search import search as search
    from vfs_ops.scans.search import search_iter as search_iter
    from vfs_ops.sharing.importing import import_cache as import_cache
    from vfs_ops.store.workspace import Workspace as Workspace

_MODULE_OF = {
    "Cache": "caches.cache",
    "Dataset": "datasets.dataset",
    "FeatureExtractor": "models.extract",
    "FolderSource": "datasets.folders",
    "Hits": "scans.hits",
    "MappedImages": "overlays.mapped_images",
    "Preprocessing": "identity.preprocessing",
    "Query": "scans.queries",
    "Resize": "identity.preprocessing",
    "TableSource": "datasets.tables",
    "TarSource": "datasets.tars",
    "Transform": "overlays.transforms",
    "Workspace": "store.workspace",
    "build": "builds.builder",
    "compare": "scans.comparison",
    "factorise": "overlays.factors",
    "import_cache": "sharing.importing",
    "ingest": "datasets.ingestion",
    "join_maps": "overlays.mapped_images",
    "list_layers": "models.layers",
    "load_model": "models.loading",
    "map_images": "overlays.mapped_images",
    "map_rows": "overlays.mapped_images",
    "null_scores": "scans.null_distribution",
    "open_cache": "caches.cache",
    "open_dataset": "datasets.dataset",
    "plan_build": "builds.builder",
    "plan_scan": "scans.plan",
    "query_from_image": "scans.queries",
    "query_from_row": "scans.queries",
    "rotations": "overlays.transforms",
    "scalings": "overlays.transforms",
    "score_images": "scans.score_arrays",
    "score_map": "scans.score_arrays",
    "search": "scans.search",
    "search_iter": "scans.search",
    "similarity_maps": "overlays.similarity",
    "study_transforms": "overlays.transform_study",
    "torchvision_source": "datasets.objects",
    "verify": "builds.verification",
}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'vfs_ops' has no attribute {name!r}")
    return getattr(import_module(f"vfs_ops.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])
