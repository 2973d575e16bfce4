"""Write entries, created and never changed, and bring the index up to date."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from catalog.about import About, Licences
from catalog.contents import list_versions
from catalog.entries import Entry, EntryType
from catalog.facts import cache_facts, dataset_facts
from catalog.index import rebuild_index
from catalog.lookup import find
from catalog.records import read_records
from vfs_ops.identity.canonical import check_name
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from vfs_ops.caches.cache import Cache
    from vfs_ops.datasets.dataset import Dataset


def register_dataset(
    workspace: Workspace,
    name: str,
    dataset: Dataset,
    *,
    about: About | None = None,
    built_by: str | None = None,
    flow_run: str | None = None,
) -> Entry:
    """Register a dataset under a name; nothing is written if its newest version says the same.

    Parameters
    ----------
    about
        What people say of it; what the newest version of the name says, by default.
    built_by
        Who registers it; the user of this process by default.
    flow_run
        In which run of a flow, if in one.

    Raises
    ------
    InvalidNameError
        If the name cannot be one.
    """
    check_name(name)
    built = {"by": user() if built_by is None else built_by, "flow_run": flow_run}
    facts = dataset_facts(dataset)
    return _register(workspace, "dataset", name, dataset.id, facts, about, built)


def register_cache(
    workspace: Workspace,
    name: str,
    cache: Cache,
    *,
    dataset_name: str,
    about: About | None = None,
    built_by: str | None = None,
    flow_run: str | None = None,
) -> Entry:
    """Register a cache under a name; nothing is written if its newest version says the same.

    Parameters
    ----------
    dataset_name
        The catalog's name of the dataset that the cache is shown with. What its entry says of the
        split and of the licence of the images is taken over where `about` says nothing.
    about, built_by, flow_run
        See `register_dataset`.

    Raises
    ------
    InvalidNameError
        If a name cannot be one.
    """
    check_name(name)
    said = _said_of_dataset(workspace, check_name(dataset_name), cache.dataset.id)
    facts = cache_facts(cache, dataset_name, said.split)
    if about is None and not read_records(workspace, "cache", name):
        about = About(split=said.split, licences=said.licences)
    built = {"by": user() if built_by is None else built_by, "flow_run": flow_run}
    return _register(workspace, "cache", name, cache.id, facts, about, built)


def describe(workspace: Workspace, kind: EntryType, name: str, about: About) -> Entry:
    """Say something else of the newest version of a name: a new version, of the same id.

    Raises
    ------
    NotFoundError
        If there is no such name.
    """
    while True:
        newest = find(workspace, check_name(name), kind)
        said = _said_anew(newest.about, about)
        if newest.about == said:
            rebuild_index(workspace)
            return newest
        built = {**newest.built, "by": user()}
        number = newest.version + 1  # of that very version: a newer one is looked at anew
        entry = Entry(kind, name, number, newest.id, now(), newest.facts, said, built)
        if _create(workspace, entry):
            return entry


def user() -> str:
    """Return the name of this process's user; empty where it has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # by Python version: an id without a name
        return ""


def now() -> str:
    """Return the time as records hold it: ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _said_of_dataset(workspace: Workspace, name: str, identity: str) -> About:
    """Return what the newest entry of this very dataset says; nothing if it has none."""
    versions = list_versions(workspace, "dataset", name)
    entry = next((entry for entry in reversed(versions) if entry.id == identity), None)
    if entry is None:
        return About()
    said = About.of(entry.about)
    return About(split=said.split, licences=Licences(images=said.licences.images))


def _said_anew(before: Mapping[str, Any], about: About) -> Mapping[str, Any]:
    """Return what is said now; fields that this version does not know stay as they were."""
    said = about.document()
    licences = {**before.get("licences", {}), **said["licences"]}
    return {**before, **said, "licences": licences}


def _register(
    workspace: Workspace,
    kind: EntryType,
    name: str,
    identity: str,
    facts: Mapping[str, Any],
    about: About | None,
    built: Mapping[str, Any],
) -> Entry:
    while True:
        known = [
            record for record in read_records(workspace, kind, name) if record.place[0] == "entry"
        ]
        newest = known[-1].found if known else None
        said: Mapping[str, Any] = (about or About()).document()
        if isinstance(newest, Entry):
            said = newest.about if about is None else _said_anew(newest.about, about)
            if (newest.id, newest.facts, newest.about) == (identity, facts, said):
                rebuild_index(workspace)  # whoever wrote the record may have been killed before
                return newest
        version = known[-1].place[3] + 1 if known else 1
        entry = Entry(kind, name, version, identity, now(), facts, said, built)
        if _create(workspace, entry):
            return entry


def _create(workspace: Workspace, entry: Entry) -> bool:
    """Write an entry; False if somebody else has written one of that number."""
    Entry.from_document(entry.document())  # what no reader would take is not written
    created = workspace.create(entry.key, entry.encode())
    if created:
        rebuild_index(workspace)
    return created
