"""Write entries, created and never changed, and bring the index up to date."""

from __future__ import annotations

import getpass
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from catalog.about import About, Licences
from catalog.contents import list_versions
from catalog.entries import MOST_RECORDS, Entry, EntryType
from catalog.facts import cache_facts, dataset_facts
from catalog.index import rebuild_index
from catalog.lookup import find
from catalog.records import read_records
from vfs_ops.errors import NameTakenError, SpecError
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
    facts = dataset_facts(dataset)
    built = _built(built_by, flow_run)
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

    That is its newest version for the same version of the dataset. A cache of an older version of
    the dataset gets a number like any other, and does not become `latest`.

    A name keeps its meaning (`Entry.stands_for`), whoever registers at the same time.

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
    NameTakenError
        If the name stands for a cache of another dataset, extractor, precision or dtype.
    """
    check_name(name)
    shown, terms = _of_dataset(workspace, check_name(dataset_name), cache.dataset.id)
    facts = cache_facts(cache, shown)
    if about is None and not read_records(workspace, "cache", name):
        about = About(split=shown["split"], licences=terms)
    built = _built(built_by, flow_run)
    return _register(workspace, "cache", name, cache.id, facts, about, built)


def describe(workspace: Workspace, kind: EntryType, name: str, about: About) -> Entry:
    """Say something else of the newest version of a name: a new version, of the same id.

    Raises
    ------
    NotFoundError
        If there is no such name.
    """
    check_name(name)

    def say(_: Sequence[Entry], number: int) -> Entry:
        newest = find(workspace, name, kind)
        said, built = _said_anew(newest.about, about), {**newest.built, "by": user()}
        return replace(newest, version=number, created=now(), about=said, built=built)

    return _append(workspace, kind, name, say)


def user() -> str:
    """Return the name of this process's user; empty where it has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # by Python version: an id without a name
        return ""


def now() -> str:
    """Return the time as records hold it: ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _built(built_by: str | None, flow_run: str | None) -> dict[str, str | None]:
    return {"by": user() if built_by is None else built_by, "flow_run": flow_run}


def _of_dataset(workspace: Workspace, name: str, identity: str) -> tuple[dict[str, Any], Licences]:
    """Return what a cache's facts say of its dataset, and the licence of the images.

    Both from the newest entry of this very dataset; its version is the one since which the name
    has meant it, so that saying more of a dataset makes no newer dataset.
    """
    versions = list_versions(workspace, "dataset", name)
    while versions and versions[-1].id != identity:
        versions.pop()
    if not versions:
        return {"name": name, "id": identity, "split": "", "version": 0}, Licences()
    said = About.of(versions[-1].about)
    *_, first = itertools.takewhile(lambda entry: entry.id == identity, reversed(versions))
    shown = {"name": name, "id": identity, "split": said.split, "version": first.version}
    return shown, Licences(images=said.licences.images)


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
    def say(entries: Sequence[Entry], number: int) -> Entry:
        entry = Entry(kind, name, number, identity, now(), facts, {}, built)
        if not entries:
            return replace(entry, about=(about or About()).document())
        before = (_last_beside(entries, entry) or max(entries, key=lambda known: known.rank)).about
        return replace(entry, about=before if about is None else _said_anew(before, about))

    return _append(workspace, kind, check_name(name), say)


def _append(
    workspace: Workspace,
    kind: EntryType,
    name: str,
    say: Callable[[Sequence[Entry], int], Entry],
) -> Entry:
    """Write the next version of a name, unless it would say what the one before it says.

    Parameters
    ----------
    say
        Given the versions that there are and the next number; returns what to write. Asked again
        if somebody else was faster.
    """
    while True:
        records = read_records(workspace, kind, name, all_listed=True)
        own = [record for record in records if record.place[0] == "entry"]
        entries = [record.found for record in own if isinstance(record.found, Entry)]
        if own and not isinstance(own[-1].found, Entry | NameTakenError):
            entries = []  # nobody can say what the last one says, so it is said anew
        number = own[-1].place[3] + 1 if own else 1
        entry = say(entries, min(number, MOST_RECORDS))  # it may say what the last one says
        _check_free(entry, [record.found for record in own if isinstance(record.found, Entry)])
        known = _last_beside(entries, entry)
        if known and (known.id, known.facts, known.about) == (entry.id, entry.facts, entry.about):
            rebuild_index(workspace)  # whoever wrote the record may have been killed before
            return known
        if number > MOST_RECORDS:
            raise SpecError(
                f"version {MOST_RECORDS} of {kind} {name} is there already, and no more can be "
                "numbered; register it under another name"
            )
        if _create(workspace, entry):
            return entry


def _check_free(entry: Entry, known: Iterable[Entry]) -> None:
    """Refuse an entry whose name stands for something else.

    Parameters
    ----------
    entry
        To be written.
    known
        The versions of its name that there are.

    Raises
    ------
    NameTakenError
        Saying what the name stands for.
    """
    for other in known:
        if other.stands_for != entry.stands_for:
            facts = other.facts
            raise NameTakenError(
                f"the name {entry.name!r} stands for a cache of another dataset, extractor, "
                f"precision or dtype (version {other.version}: {facts['layer'][:80]} of "
                f"{facts['model'][:80]} for dataset {facts['dataset']['name']}, computed in "
                f"{facts['precision'][:20]}, stored as {facts['dtype'][:20]}; "
                f"`vfs show {entry.name} --kind cache`); choose another"
            )


def _last_beside(entries: Sequence[Entry], entry: Entry) -> Entry | None:
    """Return the last version that is of the same version of its dataset as a new one."""
    beside = [known for known in entries if known.rank[0] == entry.rank[0]]
    return beside[-1] if beside else None


def _create(workspace: Workspace, entry: Entry) -> bool:
    """Write an entry; False if somebody else has written one of that number.

    Raises
    ------
    NameTakenError
        If somebody else has given the name another meaning at the same time, which counts.
    """
    Entry.from_document(entry.document())  # what no reader would take is not written
    created = workspace.create(entry.key, entry.encode())
    if created:
        for record in rebuild_index(workspace):
            if record.key == entry.key and isinstance(record.found, NameTakenError):
                raise record.found
    return created
