"""Move aliases, and deprecate: numbered records, created and never changed."""

from __future__ import annotations

from typing import Final

from catalog.contents import contents_of
from catalog.entries import EntryType
from catalog.index import rebuild_index
from catalog.lookup import find
from catalog.marks import MOST_REASON, Alias, Deprecation, check_alias_name, encode
from catalog.records import Record, read_records
from catalog.registration import now, user
from vfs_ops.errors import SpecError
from vfs_ops.identity.canonical import check_name
from vfs_ops.store.workspace import Workspace

MOST_RECORDS: Final = 99_999
"""Highest number of a record of aliases or deprecations of one name."""


def set_alias(workspace: Workspace, kind: EntryType, name: str, alias: str, version: int) -> Alias:
    """Let ``name@alias`` be a certain version from now on; nothing is written if it is already.

    Raises
    ------
    InvalidNameError
        If the alias cannot be one.
    NotFoundError
        If there is no such version.
    """
    check_alias_name(alias)
    find(workspace, f"{check_name(name)}@{version}", kind)
    while True:
        records = read_records(workspace, kind, name)
        known = contents_of(records).aliases.get((kind, name), {}).get(alias)
        if known is not None and known.version == version:
            rebuild_index(workspace)  # whoever wrote the record may have been killed before
            return known
        number = _next_number(records, "aliases")
        mark = Alias(kind, name, number, alias, version, now(), user())
        if workspace.create(mark.key, encode(mark)):
            rebuild_index(workspace)
            return mark


def deprecate(
    workspace: Workspace,
    kind: EntryType,
    reference: str,
    *,
    reason: str,
    successor: str | None = None,
) -> Deprecation:
    """Say that a version should not be used any more. It stays, and whoever opens it is warned.

    Parameters
    ----------
    reference
        Name, ``name@version`` or ``name@alias``.
    reason
        In a few words, 1000 characters at most.
    successor
        What to use instead, given likewise; in the same catalog.

    Raises
    ------
    NotFoundError
        If there is no such version, or no such successor.
    SpecError
        If a version would succeed itself, or the reason is too long.
    """
    entry = find(workspace, reference, kind)
    follows = find(workspace, successor, kind).reference if successor else None
    if follows == entry.reference:
        raise SpecError(f"{entry.reference} cannot succeed itself; name another version")
    if len(reason) > MOST_REASON:
        raise SpecError(f"the reason has {len(reason)} characters; {MOST_REASON} are allowed")
    while True:
        records = read_records(workspace, kind, entry.name)
        known = contents_of(records).deprecations.get(entry.key)
        if known is not None and (known.reason, known.successor) == (reason, follows):
            rebuild_index(workspace)
            return known
        number = _next_number(records, "deprecations")
        mark = Deprecation(kind, entry.name, number, entry.version, reason, follows, now(), user())
        if workspace.create(mark.key, encode(mark)):
            rebuild_index(workspace)
            return mark


def _next_number(records: list[Record], mark: str) -> int:
    """Return the number that a name's next alias or deprecation has.

    Raises
    ------
    SpecError
        If there is none left: keys hold five digits.
    """
    number = 1 + max((r.place[3] for r in records if r.place[0] == mark), default=0)
    if number > MOST_RECORDS:
        raise SpecError(
            f"record {MOST_RECORDS} of {mark} is there already, and no more can be numbered; "
            "register the entry under another name"
        )
    return number
