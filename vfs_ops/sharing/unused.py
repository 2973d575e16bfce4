"""Finding what nothing in a workspace refers to and nobody is working on."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from vfs_ops.builds import claims
from vfs_ops.caches.layout import cache_key, decode_plan
from vfs_ops.errors import DamagedError, NewerFormatError
from vfs_ops.identity.canonical import is_id
from vfs_ops.store.concurrent_reads import read_many
from vfs_ops.store.file_stats import FileStat
from vfs_ops.store.locations import MAX_DOCUMENT_BYTES, Folder
from vfs_ops.store.workspace import Workspace

Kind = Literal["cache", "dataset", "search", "staging", "claim", "temporary"]

MIN_AGE: Final = timedelta(days=1)
"""What was written more recently is left alone: somebody may be about to refer to it."""

_TREES: Final[Mapping[Kind, str]] = {
    "cache": "caches",
    "dataset": "datasets",
    "search": "searches",
    "staging": "staging",
    "claim": "claims",
}
_OURS: Final = (*_TREES.values(), "catalog")
"""Top folders. The catalog's is looked into for the files of killed writes alone."""

_STAGING: Final = re.compile(r"[0-9a-f]{32}")
_NUMBER: Final = r"[0-9]{5,}"
_OBJECTS: Final[Mapping[Kind, re.Pattern[str]]] = {
    "cache": re.compile(
        rf"(cache|plan|complete)\.json|receipts\.parquet|receipts/{_NUMBER}\.json|data\.zarr/zarr\.json|"
        r"data\.zarr/(features|sq_norm|valid|probe|y|x)/(zarr\.json|c(/[0-9]+)+)"
    ),
    "dataset": re.compile(
        rf"(dataset|source)\.json|(manifest|stat)\.parquet|previews/({_NUMBER}\.pack|left-out\.json)"
    ),
    "search": re.compile(r"(search|elsewhere)\.json|[0-9a-f]{64}\.parquet"),
    "staging": re.compile(rf"[0-9a-f]{{12}}-{_NUMBER}\.(pack|parquet)"),
    "claim": re.compile(r"[0-9a-f]{16}\.json"),
}
"""What may lie in a folder of each kind. All else is somebody's own, and stays."""


@dataclass(frozen=True)
class Unused:
    """Something that may be removed."""

    kind: Kind
    key: str
    """The folder, or the file itself, in the workspace."""
    reason: str
    """Why nobody needs it, as a phrase."""
    bytes: int
    objects: int
    changed: datetime
    """When the newest of its objects was written, by the clock of the storage."""
    files: tuple[FileStat, ...] = field(repr=False)
    """Its objects as they were listed; what comes later is not removed."""


@dataclass(frozen=True)
class Findings:
    """What a workspace holds that no entry refers to."""

    unused: tuple[Unused, ...]
    """Caches first, then datasets, whose caches these are."""
    unknown: tuple[FileStat, ...]
    """Files that no part of this project writes there. They are never removed."""


@dataclass(frozen=True)
class Rules:
    """By what something counts as unused."""

    referenced: frozenset[str]
    """Ids of the datasets and caches that entries name."""
    min_age: timedelta
    now: datetime

    def too_young(self, files: Collection[FileStat]) -> bool:
        """Tell whether something was written recently, or the storage does not tell when."""
        changed = [stat.changed for stat in files]
        return any(time is None or time > self.now - self.min_age for time in changed)


def find_unused(
    workspace: Workspace, referenced: Collection[str], *, min_age: timedelta = MIN_AGE
) -> Findings:
    """List what no entry refers to and nobody works on; nothing is removed.

    Parameters
    ----------
    workspace
        That can be written and listed.
    referenced
        Ids of all datasets and caches that any version of any entry names, a cache's dataset
        among them.
    min_age
        How long something must have been left alone.

    Returns
    -------
    Findings
        Caches that no entry names; datasets that neither an entry names nor a cache that stays was
        built for; answers of searches whose caches were here and are all gone; staged images of
        interrupted ingests; claims of dead builders; files of killed writes. Never anything younger
        than `min_age` or claimed by a builder.

    Raises
    ------
    DamagedError, NewerFormatError
        If a cache that stays has a plan that cannot be read, so that its dataset is not known.
    AccessError, UnavailableError, StorageError
        As the storage answers.
    """
    rules = Rules(frozenset(referenced), min_age, datetime.now(UTC))
    unknown = list(_elsewhere(workspace))
    folders: dict[Kind, dict[str, list[FileStat]]] = {}
    for kind, tree in _TREES.items():
        folders[kind], strange = _by_folder(workspace, kind, tree)
        unknown.extend(strange)
    caches = list(_caches(workspace, folders["cache"], rules))
    gone = {found.key for found in caches}
    staying = [name for name in folders["cache"] if f"caches/{name}" not in gone]
    needed = rules.referenced | datasets_of(workspace, staying)
    found = [
        *caches,
        *(
            _unused("dataset", f"datasets/{name}", files, _why_dataset(files))
            for name, files in folders["dataset"].items()
            if name not in needed and not rules.too_young(files)
        ),
        *(
            _unused("search", f"searches/{name}", files, "of caches that are not here any more")
            for name, files in folders["search"].items()
            if searched(files).isdisjoint(folders["cache"])
            and not _of_elsewhere(files)
            and not rules.too_young(files)
        ),
        *(
            _unused("staging", f"staging/{name}", files, "left by an ingest that was interrupted")
            for name, files in folders["staging"].items()
            if not rules.too_young(files)
        ),
        *_claims(workspace, folders["claim"], rules),
        *(
            _unused("temporary", stat.path, [stat], "left by a write that was killed")
            for stat in workspace.abandoned()
            if stat.path.partition("/")[0] in _OURS and not rules.too_young([stat])
        ),
    ]
    return Findings(tuple(found), tuple(unknown))


def datasets_of(workspace: Workspace, cache_ids: Collection[str]) -> set[str]:
    """Return the ids of the datasets that caches were built for; those without a plan have none.

    Raises
    ------
    DamagedError, NewerFormatError
        If a plan cannot be read.
    """
    keys = [cache_key(cache_id, "plan.json") for cache_id in cache_ids if is_id(cache_id)]
    found = set()
    for key, data in zip(keys, read_many(workspace, keys, most=MAX_DOCUMENT_BYTES), strict=True):
        if data is not None:
            try:
                found.add(decode_plan(data).dataset)
            except DamagedError as error:
                raise DamagedError(
                    f"{key} cannot be read, so it is not known which dataset its cache needs "
                    f"({error}); repair the cache or delete its folder"
                ) from error
    return found


def searched(files: Iterable[FileStat]) -> set[str]:
    """Return the ids of the caches that a batch of searches has answers of."""
    names = (stat.path.rpartition("/")[2] for stat in files)
    return {name.removesuffix(".parquet") for name in names if name.endswith(".parquet")}


def _of_elsewhere(files: Iterable[FileStat]) -> bool:
    """Tell whether a search was of caches of another workspace; its answers were wanted here."""
    return any(stat.path.endswith("/elsewhere.json") for stat in files)


def is_claimed(workspace: Workspace, cache_id: str) -> bool:
    """Tell whether somebody is building a cache, or a claim cannot be read."""
    try:
        return bool(claims.active(workspace, cache_id))
    except (DamagedError, NewerFormatError):
        return True


def files_below(workspace: Workspace, kind: Kind, key: str) -> list[FileStat]:
    """List what is in a folder of some kind, but for what is not this project's."""
    return [
        stat
        for stat in workspace.walk(key)
        if _OBJECTS[kind].fullmatch(stat.path.removeprefix(f"{key}/"))
    ]


def _caches(
    workspace: Workspace, folders: Mapping[str, list[FileStat]], rules: Rules
) -> Iterator[Unused]:
    for name, files in folders.items():
        if name in rules.referenced or rules.too_young(files) or is_claimed(workspace, name):
            continue
        finished = any(stat.path.endswith(f"{name}/complete.json") for stat in files)
        reason = "no entry names it" if finished else "unfinished, and nobody is building it"
        yield _unused("cache", f"caches/{name}", files, reason)


def _why_dataset(files: Collection[FileStat]) -> str:
    if any(stat.path.endswith("/dataset.json") for stat in files):
        return "no entry names it, and no cache that stays was built for it"
    return "unfinished, and nobody is ingesting it"


def _claims(
    workspace: Workspace, folders: Mapping[str, list[FileStat]], rules: Rules
) -> Iterator[Unused]:
    for name, files in folders.items():
        if not rules.too_young(files) and not is_claimed(workspace, name):
            yield _unused("claim", f"claims/{name}", files, "left by a builder that was killed")


def _unused(kind: Kind, key: str, files: Collection[FileStat], reason: str) -> Unused:
    changed = max(stat.changed for stat in files if stat.changed is not None)
    size = sum(stat.size for stat in files)
    return Unused(kind, key, reason, size, len(files), changed, tuple(files))


def _by_folder(
    workspace: Workspace, kind: Kind, tree: str
) -> tuple[dict[str, list[FileStat]], list[FileStat]]:
    """List what lies below a top folder: by the folder it is in, and what does not belong."""
    folders: dict[str, list[FileStat]] = defaultdict(list)
    strange = []
    for stat in workspace.walk(tree):
        name, _, rest = stat.path.removeprefix(f"{tree}/").partition("/")
        right = _STAGING.fullmatch(name) if kind == "staging" else is_id(name)
        if right and _OBJECTS[kind].fullmatch(rest):
            folders[name].append(stat)
        else:
            strange.append(stat)
    return folders, strange


def _elsewhere(workspace: Workspace) -> Iterator[FileStat]:
    """Yield the files outside of the top folders."""
    root = Folder(workspace.url)  # their names may be none that a workspace would give
    for name in workspace.names(""):
        if name not in _OURS:
            yield from root.walk(name)
            if root.filesystem.isfile(root.path_of(name)):
                yield root.stat(name)
