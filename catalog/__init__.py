"""The catalog of a workspace: named entries for datasets and caches, as small static JSON."""

from catalog.entries import Entry
from catalog.lookup import (
    Contents,
    find,
    list_entries,
    list_versions,
    open_cache,
    open_dataset,
    read_contents,
)
from catalog.registration import register_cache, register_dataset

__all__ = [
    "Contents",
    "Entry",
    "find",
    "list_entries",
    "list_versions",
    "open_cache",
    "open_dataset",
    "read_contents",
    "register_cache",
    "register_dataset",
]
