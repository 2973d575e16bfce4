"""A source that counts what is read of it, and what it leaves in a workspace."""

from dataclasses import dataclass, field, replace
from typing import Any

from vfs_ops.datasets.sources import Content, Listing, Place
from vfs_ops.store.workspace import Workspace


@dataclass
class Counting:
    """A source that counts what is read, and fails or stops where it is told to."""

    inner: Any
    fail_at: str | None = None
    error: BaseException | None = None
    read: list[str] = field(default_factory=list)

    def listing(self) -> Listing:
        listing = self.inner.listing()
        self.reader = listing.reader
        return replace(listing, reader=self)

    def fetch(self, place: Place) -> Content:
        if place.uri == self.fail_at and self.error is not None:
            raise self.error
        self.read.append(place.uri)
        return self.reader.fetch(place)

    def stat(self, place: Place) -> Any:
        return self.reader.stat(place)


def objects(workspace: Workspace) -> dict[str, bytes]:
    return {stat.path: workspace.read(stat.path) for stat in workspace.walk()}


def finished(workspace: Workspace) -> list[str]:
    keys = objects(workspace)
    return [key.split("/")[1] for key in keys if key.endswith("/dataset.json")]
