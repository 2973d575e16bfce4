"""Tar shards in the WebDataset layout, as a dataset source; one ranged read gets a member."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Final

import pyarrow as pa

from vfs_ops.datasets.sources import EXTENSIONS, Listing, file_listing
from vfs_ops.datasets.tabular import split_url
from vfs_ops.errors import SourceError
from vfs_ops.store.file_stats import FileStat
from vfs_ops.store.locations import Folder
from vfs_ops.store.ranged import open_ranged
from vfs_ops.store.urls import SOURCE_PROTOCOLS, normalize_url

MAX_TEXT_BYTES: Final = 2**20
"""Largest ``.json``, ``.cls`` or ``.txt`` member that is read."""

_COMPRESSED: Final = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
}
_TEXTS: Final = ("cls", "txt", "json")
_END_BLOCK: Final = 512


@dataclass(frozen=True)
class TarSource:
    """A tar shard, or all ``.tar`` files below a folder, in the order of their paths.

    Members whose paths agree up to the first dot of the base name are one sample: one image (told
    by its extension), ``cls`` (the label), ``txt`` (text, a metadata column ``txt``) and ``json``
    (an object; its keys are metadata columns). Other members, and samples without an image, are
    left out. Shards may not be compressed.
    """

    url: str

    def listing(self) -> Listing:
        """Read the headers of all shards; see `Source.listing`."""
        root, shards = _find_shards(self.url)
        samples = [(shard, sample) for shard in shards for sample in _samples(root, shard)]
        if not samples:
            raise SourceError(
                f"{self.url} holds no image; expected uncompressed .tar shards with samples such "
                "as 000.jpg, 000.cls, 000.json"
            )
        return file_listing(
            root,
            [f"{shard.path}#{sample.name}" for shard, sample in samples],
            [sample.label for _, sample in samples],
            [shard.token for shard, _ in samples],
            [sample.size for _, sample in samples],
            _metadata([sample.metadata for _, sample in samples], self.url),
            [sample.offset for _, sample in samples],
        )


@dataclass
class _Sample:
    name: str = ""
    offset: int = -1
    size: int = 0
    label: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def _find_shards(url: str) -> tuple[Folder, list[FileStat]]:
    if normalize_url(url, SOURCE_PROTOCOLS).endswith(".tar"):
        root, name = split_url(url)
        shards = [root.stat(name)]
        shards = [FileStat(name, shards[0].size, shards[0].token)]
    else:
        root = Folder.at(url)
        shards = [stat for stat in root.walk() if stat.path.endswith(".tar")]
    for shard in shards:
        if "#" in shard.path:
            raise SourceError(f"{shard.path!r}: a shard's name may not hold '#'; rename it")
    return root, shards


def _samples(root: Folder, shard: FileStat) -> list[_Sample]:
    """Return the samples of a shard that have an image, in the order of their first members."""
    what = f"{root.url}/{shard.path}"
    samples: dict[str, _Sample] = {}
    with open_ranged(root, shard.path, shard.size) as file:
        for member in _members(file, what):
            folder, slash, base = member.name.rpartition("/")
            stem, _, extension = base.partition(".")
            sample = samples.setdefault(f"{folder}{slash}{stem}", _Sample())
            extension = extension.lower()
            if extension in EXTENSIONS:
                if sample.offset >= 0:
                    raise SourceError(
                        f"{what}: {sample.name!r} and {member.name!r} are images of one sample; "
                        "expected one; rename one of them"
                    )
                sample.name, sample.offset = member.name, member.offset_data
                sample.size = member.size
            elif extension in _TEXTS:
                _describe(sample, extension, _text(file, member, what), f"{what}#{member.name}")
    return [sample for sample in samples.values() if sample.offset >= 0]


def _members(file: IO[bytes], what: str) -> Iterator[tarfile.TarInfo]:
    start = file.read(6)
    for magic, command in _COMPRESSED.items():
        if start.startswith(magic):
            raise SourceError(f"{what} is compressed; unpack it with {command}, and ingest that")
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if not member.isreg():
                    continue
                if member.issparse():
                    raise SourceError(
                        f"{what}: member {member.name!r} is sparse; write the shard without "
                        "sparse files"
                    )
                yield member
            end = archive.offset
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise SourceError(f"{what} is no tar file, or damaged: {error}; copy it again") from error
    # Python takes a damaged header for the end: nothing but zeros may follow
    file.seek(end)
    if any(file.read(_END_BLOCK)):
        raise SourceError(f"{what} is damaged at byte {end}; copy it again")


def _text(file: IO[bytes], member: tarfile.TarInfo, what: str) -> str:
    if member.size > MAX_TEXT_BYTES:
        raise SourceError(
            f"{what}#{member.name} has {member.size} bytes; expected at most {MAX_TEXT_BYTES}"
        )
    position = file.tell()
    file.seek(member.offset_data)
    data = file.read(member.size)
    file.seek(position)
    try:
        return data.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise SourceError(f"{what}#{member.name} is no UTF-8 text: {error}") from error


def _describe(sample: _Sample, extension: str, text: str, what: str) -> None:
    if extension == "cls":
        sample.label = text or None
    elif extension == "txt":
        sample.metadata["txt"] = text
    else:
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{what} is no JSON: {error}") from error
        if not isinstance(values, dict):
            raise SourceError(f"{what} is a {type(values).__name__}; expected a JSON object")
        sample.metadata.update(values)


def _metadata(rows: list[dict[str, Any]], what: str) -> pa.Table | None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {}
    for name in sorted(names):
        try:
            columns[name] = pa.array([row.get(name) for row in rows])
        except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
            raise SourceError(
                f"{what}: the values of {name[:100]!r} are of different types: {error}"
            ) from error
    return pa.table(columns) if columns else None
