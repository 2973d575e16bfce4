"""The catalog of a workspace: named entries for datasets and caches, as small static JSON."""

from catalog.about import About, Licences
from catalog.contents import Contents, list_entries, list_versions, read_contents
from catalog.copies import Copies, check_copies, copy_entries
from catalog.entries import Entry
from catalog.index import rebuild_index
from catalog.listing import find_all
from catalog.lookup import DeprecatedWarning, Located, find, locate
from catalog.marking import deprecate, set_alias
from catalog.opening import open_cache, open_dataset
from catalog.opening import open_reference as open  # noqa: A004  # as catalog.open it reads well
from catalog.publishing import Published, publish
from catalog.registration import describe, register_cache, register_dataset

__all__ = [
    "About",
    "Contents",
    "Copies",
    "DeprecatedWarning",
    "Entry",
    "Licences",
    "Located",
    "Published",
    "check_copies",
    "copy_entries",
    "deprecate",
    "describe",
    "find",
    "find_all",
    "list_entries",
    "list_versions",
    "locate",
    "open",
    "open_cache",
    "open_dataset",
    "publish",
    "read_contents",
    "rebuild_index",
    "register_cache",
    "register_dataset",
    "set_alias",
]
