"""The job `publish_catalog`: the page on which people browse a workspace's caches."""

from __future__ import annotations

from dataclasses import dataclass

import catalog
from catalog import Published
from flows.jobs.job import Job
from flows.watching import Watcher
from vfs_ops.store.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class PublishJob(Job):
    """Write the catalog's page, or bring it up to date; an unchanged one is not written."""

    workspace: str
    """URL of the workspace."""
    url: str | None = None
    """Where people reach the workspace, if not where they find the page."""
    previews: bool = True
    """False for images that may not be shown."""

    def run(self, watcher: Watcher | None = None) -> Published:
        """Publish; what had to be left out is told.

        Raises
        ------
        InvalidUrlError, AccessError, StorageError
            See `catalog.publish`.
        """
        watcher = watcher or Watcher()
        published = watcher.stage(
            "publish",
            lambda: catalog.publish(
                Workspace.at(self.workspace), url=self.url, previews=self.previews
            ),
        )
        for problem in published.problems:
            watcher.note(f"left out: {problem}")
        return published
