"""Visual Feature Search: what a vision model's layer considers similar, found exactly.

The names here are loaded when they are first used, so that importing one module of this package
loads neither torch nor Dask.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vfs_ops.builder import build as build
    from vfs_ops.builder import plan_build as plan_build
    from vfs_ops.caches import Cache as Cache
    from vfs_ops.caches import open_cache as open_cache
    from vfs_ops.comparison import compare as compare
    from vfs_ops.datasets import Dataset as Dataset
    from vfs_ops.datasets import open_dataset as open_dataset
    from vfs_ops.extract import FeatureExtractor as FeatureExtractor
    from vfs_ops.factors import factorise as factorise
    from vfs_ops.folders import FolderSource as FolderSource
    from vfs_ops.hits import Hits as Hits
    from vfs_ops.importing import import_cache as import_cache
    from vfs_ops.ingestion import ingest as ingest
    from vfs_ops.layers import list_layers as list_layers
    from vfs_ops.mapped_images import MappedImages as MappedImages
    from vfs_ops.mapped_images import join_maps as join_maps
    from vfs_ops.mapped_images import map_images as map_images
    from vfs_ops.mapped_images import map_rows as map_rows
    from vfs_ops.models import load_model as load_model
    from vfs_ops.null_distribution import null_scores as null_scores
    from vfs_ops.objects import torchvision_source as torchvision_source
    from vfs_ops.preprocessing import Preprocessing as Preprocessing
    from vfs_ops.preprocessing import Resize as Resize
    from vfs_ops.queries import Query as Query
    from vfs_ops.queries import query_from_image as query_from_image
    from vfs_ops.queries import query_from_row as query_from_row
    from vfs_ops.scan import search as search
    from vfs_ops.scan import search_iter as search_iter
    from vfs_ops.scan_plan import plan_scan as plan_scan
    from vfs_ops.score_arrays import score_images as score_images
    from vfs_ops.score_arrays import score_map as score_map
    from vfs_ops.similarity import similarity_maps as similarity_maps
    from vfs_ops.storage import Workspace as Workspace
    from vfs_ops.tables import TableSource as TableSource
    from vfs_ops.tars import TarSource as TarSource
    from vfs_ops.transform_study import study_transforms as study_transforms
    from vfs_ops.transforms import Transform as Transform
    from vfs_ops.transforms import rotations as rotations
    from vfs_ops.transforms import scalings as scalings
    from vfs_ops.verification import verify as verify

_MODULE_OF = {
    "Cache": "caches",
    "Dataset": "datasets",
    "FeatureExtractor": "extract",
    "FolderSource": "folders",
    "Hits": "hits",
    "MappedImages": "mapped_images",
    "Preprocessing": "preprocessing",
    "Query": "queries",
    "Resize": "preprocessing",
    "TableSource": "tables",
    "TarSource": "tars",
    "Transform": "transforms",
    "Workspace": "storage",
    "build": "builder",
    "compare": "comparison",
    "factorise": "factors",
    "import_cache": "importing",
    "ingest": "ingestion",
    "join_maps": "mapped_images",
    "list_layers": "layers",
    "load_model": "models",
    "map_images": "mapped_images",
    "map_rows": "mapped_images",
    "null_scores": "null_distribution",
    "open_cache": "caches",
    "open_dataset": "datasets",
    "plan_build": "builder",
    "plan_scan": "scan_plan",
    "query_from_image": "queries",
    "query_from_row": "queries",
    "rotations": "transforms",
    "scalings": "transforms",
    "score_images": "score_arrays",
    "score_map": "score_arrays",
    "search": "scan",
    "search_iter": "scan",
    "similarity_maps": "similarity",
    "study_transforms": "transform_study",
    "torchvision_source": "objects",
    "verify": "verification",
}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'vfs_ops' has no attribute {name!r}")
    return getattr(import_module(f"vfs_ops.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])
