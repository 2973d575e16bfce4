"""The entries of one catalog or several as a table, filtered by any field, or by words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from catalog.contents import Contents, read_contents
from catalog.entries import Entry, EntryType
from catalog.lookup import Workspaces, as_workspaces
from catalog.marks import LATEST
from vfs_ops.identity.canonical import canonical_json
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from vfs_ops.datasets.predicates import Filters


def find_all(
    workspaces: Workspaces | None = None,
    where: Filters | None = None,
    text: str | None = None,
    kind: EntryType | None = None,
    *,
    all_versions: bool = False,
) -> pd.DataFrame:
    """Find entries by any of their fields, in one catalog or several.

    Parameters
    ----------
    workspaces
        See `catalog.open`.
    where
        Structured filters, as for `vfs_ops.search`: ``[("model", "==", "timm:vit_base"),
        ("channels", "<=", 512)]``, joined by AND, or a list of such lists, joined by OR. Lists
        (``aliases``, ``versions``, ``grid``, …) take ``contains``. Nothing is ever evaluated.
    text
        Words that must all occur, in whatever case, anywhere in the texts of an entry.
    kind
        ``dataset`` or ``cache``; both if not given.
    all_versions
        Older versions too, and not only the newest one of each name.

    Returns
    -------
    pandas.DataFrame
        A row for each entry, in the order of the workspaces, of type and of name. ``workspace``
        says where it lies; fields that an entry does not have are missing values. Records that
        cannot be read are left out; `catalog.read_contents` tells of them.

    Raises
    ------
    PredicateError
        If a filter is malformed, or names no field.
    StorageError
        If one of the catalogs cannot be read.

    Examples
    --------
    >>> catalog.find_all(where=[("layer", "==", "layer4"), ("images", ">", 10_000)],
    ...                  text="imagenet")                               # doctest: +SKIP
    """
    from vfs_ops.datasets.predicates import evaluate

    rows = [
        _row(workspace, contents, entry, entry.key in newest)
        for workspace in as_workspaces(workspaces)
        for contents in [read_contents(workspace)]
        for newest in [{entry.key for entry in contents.entries}]
        for entry in (contents.versions if all_versions else contents.entries)
        if kind in (None, entry.type)
    ]
    words = (text or "").casefold().split()
    rows = [row for row in rows if _mentions(row, words)]
    table = _table(rows)
    found = table.filter(evaluate(table, where))
    return _to_pandas(found)


def _row(workspace: Workspace, contents: Contents, entry: Entry, is_newest: bool) -> dict[str, Any]:
    facts, about = entry.facts, entry.about
    dataset, terms = facts.get("dataset", {}), about.get("licences", {})
    deprecation = contents.deprecations.get(entry.key)
    marks = contents.aliases.get((entry.type, entry.name), {}).values()
    aliases = [mark.alias for mark in marks if mark.version == entry.version]
    if is_newest:
        aliases.insert(0, LATEST)
    recipe = facts.get("recipe")
    return {
        **{name: facts[name] for name in _schema() if name in facts},
        **{name: about.get(name) for name in ("owner", "description", "split", "citation")},
        "type": entry.type,
        "name": entry.name,
        "version": entry.version,
        "aliases": aliases,
        "status": about.get("status", "active") if deprecation is None else "deprecated",
        "successor": None if deprecation is None else deprecation.successor,
        "deprecation": None if deprecation is None else deprecation.reason,
        "dataset": dataset.get("name") if dataset else entry.name,
        "dataset_id": dataset.get("id") if dataset else entry.id,
        "versions": [f"{name} {version}" for name, version in facts.get("versions", {}).items()],
        "recipe": None if recipe is None else canonical_json(recipe).decode(),
        **{f"licence_{of}": terms.get(of) for of in ("images", "weights", "features")},
        "built_by": entry.built.get("by"),
        "flow_run": entry.built.get("flow_run"),
        "created": entry.created,
        "workspace": workspace.url,
        "id": entry.id,
    }


def _mentions(row: Mapping[str, Any], words: Iterable[str]) -> bool:
    parts = [value if isinstance(value, list) else [value] for value in row.values()]
    texts = [item.casefold() for part in parts for item in part if isinstance(item, str)]
    return all(any(word in text for text in texts) for word in words)


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    kinds = {
        "text": pa.string(),
        "count": pa.int64(),
        "counts": pa.list_(pa.int64()),
        "pixels": pa.list_(pa.float64()),
        "texts": pa.list_(pa.string()),
    }
    schema = pa.schema([pa.field(name, kinds[kind]) for name, kind in _schema().items()])
    return pa.Table.from_pylist(rows, schema)


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa

    whole_numbers = {pa.int64(): pd.Int64Dtype()}  # which, other than NumPy's, may be missing
    frame: pd.DataFrame = table.to_pandas(types_mapper=whole_numbers.get)
    return frame


def _schema() -> dict[str, str]:
    """Return the columns, in order, each with the kind of its values."""
    return {
        **dict.fromkeys(("type", "name"), "text"),
        "version": "count",
        "aliases": "texts",
        **dict.fromkeys(("status", "successor", "deprecation", "owner", "description"), "text"),
        **dict.fromkeys(("dataset", "split"), "text"),
        **dict.fromkeys(("images", "unreadable"), "count"),
        **dict.fromkeys(("model", "weights", "layer"), "text"),
        "grid": "counts",
        "channels": "count",
        "stride": "pixels",
        "input_size": "counts",
        **dict.fromkeys(("precision", "dtype", "origin"), "text"),
        **dict.fromkeys(("bytes", "shards"), "count"),
        **dict.fromkeys(("licence_images", "licence_weights", "licence_features"), "text"),
        **dict.fromkeys(("citation", "built_by", "finished", "created", "flow_run"), "text"),
        "versions": "texts",
        "columns": "texts",
        **dict.fromkeys(("weights_fingerprint", "extractor_id", "checksum", "recipe"), "text"),
        **dict.fromkeys(("images_id", "dataset_id", "id", "workspace"), "text"),
    }
