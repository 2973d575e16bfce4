"""Move aliases, and deprecate: numbered records, created and never changed."""

from __future__ import annotations

from dataclasses import replace

from catalog.contents import contents_of
from catalog.entries import MOST_RECORDS, EntryType
from catalog.index import rebuild_index
from catalog.lookup import find
from catalog.marks import MOST_REASON, Alias, AnyMark, Deprecation, check_alias_name
from catalog.records import read_records
from catalog.registration import now, user
from vfs_ops.errors import SpecError
from vfs_ops.identity.canonical import check_name
from vfs_ops.store.workspace import Workspace


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
    mark = Alias(type=kind, name=name, version=version, alias=alias, created=now(), by=user())
    written = write_mark(workspace, mark)
    rebuild_index(workspace)  # whoever wrote the record may have been killed before
    return written


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
    mark = Deprecation(
        type=kind,
        name=entry.name,
        version=entry.version,
        created=now(),
        by=user(),
        reason=reason,
        successor=follows,
    )
    written = write_mark(workspace, mark)
    rebuild_index(workspace)  # whoever wrote the record may have been killed before
    return written


def write_mark(workspace: Workspace, mark: AnyMark) -> AnyMark:
    """Write a mark under the next number, unless the one in force says the same; no index.

    Returns
    -------
    Alias or Deprecation
        The one in force, with its number.

    Raises
    ------
    SpecError
        If there is no number left: keys hold five digits.
    """
    while True:
        records = read_records(workspace, mark.type, mark.name, all_listed=True)
        known = contents_of(records).in_force(mark)
        if known is not None and known.said == mark.said:
            return known
        taken = [record.place[3] for record in records if record.place[0] == mark.folder]
        number = 1 + max(taken, default=0)
        if number > MOST_RECORDS:
            raise SpecError(
                f"record {MOST_RECORDS} of {mark.folder} is there already, and no more can be "
                "numbered; register the entry under another name"
            )
        numbered = replace(mark, number=number)
        if workspace.create(numbered.key, numbered.encode()):
            return numbered
