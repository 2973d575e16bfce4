"""The catalog of a workspace: named entries for datasets and caches, as small static JSON."""

from catalog.entries import Entry
from catalog.lookup import find, list_entries, open_cache, open_dataset
from catalog.registration import register_cache, register_dataset

__all__ = [
    "Entry",
    "find",
    "list_entries",
    "open_cache",
    "open_dataset",
    "register_cache",
    "register_dataset",
]
