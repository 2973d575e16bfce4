"""Copy what one catalog says of a cache or dataset to the catalog of another workspace."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from catalog.contents import Contents, read_contents
from catalog.entries import Entry, EntryType, entry_key
from catalog.facts import cache_facts, dataset_facts
from catalog.index import rebuild_index
from catalog.marking import write_mark
from catalog.marks import MOST_REASON, Alias, AnyMark, Deprecation
from catalog.records import read_records
from vfs_ops.errors import MismatchError, VfsError
from vfs_ops.store.workspace import Workspace

CLOCKS: Final = timedelta(minutes=10)
"""By so much the clocks of two machines may differ."""


@dataclass(frozen=True)
class Copies:
    """What the other catalog says now."""

    entry: Entry
    """The copy."""
    notices: tuple[str, ...]
    """What it says otherwise than the source, in sentences."""


def check_copies(source: Workspace, target: Workspace, entry: Entry) -> None:
    """Refuse what `copy_entries` would refuse, before anything large is copied."""
    _missing(_meant(read_contents(source), entry), source, target)


def copy_entries(source: Workspace, target: Workspace, entry: Entry) -> Copies:
    """Copy the entries of a cache and its dataset, or of a dataset; run again, it writes nothing.

    * Copied is every version of the entry's name that means the same, under its own number and with
      all that it says; of a cache's dataset likewise. So versions come in any order.
    * A version that the target has registered itself, of the same cache or dataset, stays.
    * Aliases and deprecations of the versions that both have are taken over, unless the target has
      said otherwise later: by `created`, which is the clock of who said it. A time that has not
      come is no reason to take anything over.
    * A successor that the target has not is named in the reason.

    Parameters
    ----------
    source, target
        Both have the cache or dataset itself.
    entry
        Of the source.

    Raises
    ------
    MismatchError
        If the name, or a version of it, stands for something else in the target.
    NameTakenError
        If somebody has given the name another meaning there at the same time, which counts.
    """
    said = read_contents(source)
    meant = _meant(said, entry)
    while missing := _missing(meant, source, target):  # again, if somebody else was faster
        for each in missing:
            copied = replace(each, facts=_facts(target, each))
            target.create(copied.key, copied.encode())
    there = read_contents(target)
    own = {each.key: each for each in there.versions}
    if any(each.key not in own for each in meant):  # set aside: somebody was faster even so
        _missing(meant, source, target)
    notices = [
        f"{each.reference} is described otherwise in {target.url}, which registered it itself"
        for each in meant
        if own[each.key].about != each.about
    ]
    both = {
        each.key: each
        for each in said.versions
        if each.key in own and own[each.key].meaning == each.meaning
    }
    names = dict.fromkeys((each.type, each.name) for each in meant)
    for mark in _marks(said, names, both):
        notices += _copy_mark(mark, there, both, target)
    rebuild_index(target)
    return Copies(own[entry.key], tuple(notices))


def _meant(said: Contents, entry: Entry) -> list[Entry]:
    """Return the versions to copy: of a cache's dataset, then of the entry itself."""
    wanted = [(entry.type, entry.name, entry.meaning)]
    if entry.type == "cache":
        shown = entry.facts["dataset"]
        wanted.insert(0, ("dataset", shown["name"], (shown["id"], shown["id"])))
    return [each for each in said.versions if (each.type, each.name, each.meaning) in wanted]


def _missing(meant: Sequence[Entry], source: Workspace, target: Workspace) -> list[Entry]:
    """Return the versions that the target has not; refuse if it has something else in a place."""
    there = {record.key: record.found for record in read_records(target, all_listed=True)}
    known = [found for found in there.values() if isinstance(found, Entry)]
    for each in meant:
        found = there.get(each.key)
        if isinstance(found, VfsError):
            raise found
        if isinstance(found, Entry) and found.meaning != each.meaning:
            raise MismatchError(
                f"{each.type} {each.reference} is {found.id[:12]} in {target.url} and "
                f"{each.id[:12]} in {source.url}, and versions never change; mirror to another "
                "workspace: several are searched as one"
            )
        own = [k for k in known if (k.type, k.name) == (each.type, each.name)]
        if any(k.stands_for != each.stands_for for k in own):
            raise MismatchError(
                f"the name {each.name!r} stands for another dataset, extractor, precision or dtype "
                f"in {target.url} than in {source.url}, and names keep their meaning; mirror to "
                "another workspace: several are searched as one"
            )
    return [each for each in meant if each.key not in there]


def _facts(target: Workspace, entry: Entry) -> dict[str, Any]:
    """Return the facts of an entry, those that are known read from the target itself."""
    from vfs_ops.caches.cache import open_cache
    from vfs_ops.datasets.dataset import open_dataset

    if entry.type == "dataset":
        return {**entry.facts, **dataset_facts(open_dataset(target, entry.id))}
    shown = entry.facts["dataset"]
    cache = open_cache(target, entry.id, open_dataset(target, shown["id"]))
    return {**entry.facts, **cache_facts(cache, shown)}


def _marks(
    said: Contents, names: Collection[tuple[EntryType, str]], both: Mapping[str, Entry]
) -> Iterator[Alias | Deprecation]:
    for name in names:
        yield from said.aliases.get(name, {}).values()
    for key, mark in said.deprecations.items():
        if key in both and (mark.type, mark.name) in names:
            yield _with_successor(mark, both.values())


def _with_successor(mark: Deprecation, both: Collection[Entry]) -> Deprecation:
    """Return what the target can say: a successor must be there."""
    here = (each.reference for each in both if each.type == mark.type)
    if mark.successor is None or mark.successor in here:
        return mark
    reason = f"{mark.reason} (its successor {mark.successor} is not here)".strip()[:MOST_REASON]
    return replace(mark, reason=reason, successor=None)


def _copy_mark(
    mark: Alias | Deprecation, there: Contents, both: Collection[str], target: Workspace
) -> Iterator[str]:
    """Take over what is said of a version that both have; yield what the target says instead."""
    stands = there.in_force(mark)
    if stands is not None and stands.said == mark.said:
        return
    if entry_key(mark.type, mark.name, mark.version) in both:
        if stands is None or _is_later(mark, stands):
            write_mark(target, mark)
        else:
            yield (
                f"{mark.sentence()} (said {mark.created}); in {target.url} was said "
                f"{stands.created}, which stays: {stands.sentence()}"
            )
    elif stands is not None:
        yield f"{mark.sentence()}, which {target.url} has not; there {stands.sentence()}"


def _is_later(mark: AnyMark, stands: AnyMark) -> bool:
    """Tell whether a mark was said after another, as far as it can have been said at all."""
    soon = (datetime.now(UTC) + CLOCKS).isoformat(timespec="seconds")
    return mark.created <= soon and (stands.created <= mark.created or stands.created > soon)
