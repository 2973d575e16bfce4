"""Readers that fail at a chosen image, in whichever process reads it."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from vfs_ops.datasets.sources import Files
from vfs_ops.errors import AccessError, UnavailableError
from vfs_ops.store.locations import Folder


@dataclass(frozen=True)
class Saboteur:
    """Reads a folder; the first `times` readings of one image fail, in all processes together."""

    folder: str
    uri: str
    marks: str
    """A folder where each failure leaves a file."""
    how: str = "kill"
    """``kill`` ends the process at once; ``unavailable`` and ``denied`` raise."""
    times: int = 1

    def fetch(self, place):
        if place.uri == self.uri:
            for number in range(self.times):
                try:
                    (Path(self.marks) / str(number)).touch(exist_ok=False)
                except FileExistsError:
                    continue
                self._fail()
        return Files(Folder.at(self.folder)).fetch(place)

    def stat(self, place):
        return Files(Folder.at(self.folder)).stat(place)

    def _fail(self):
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "unavailable":
            raise UnavailableError("the images do not answer; try again later")
        raise AccessError("the images: access refused; check credentials")


@dataclass(frozen=True)
class FlowKiller:
    """Reads a folder; one image ends all processes of the session once a shard is finished."""

    folder: str
    uri: str
    caches: str
    """The folder of caches that is built into."""

    def fetch(self, place):
        if place.uri == self.uri:
            while not list(Path(self.caches).glob("*/receipts/*.json")):
                time.sleep(0.01)
            os.killpg(os.getsid(0), signal.SIGKILL)
        return Files(Folder.at(self.folder)).fetch(place)

    def stat(self, place):
        return Files(Folder.at(self.folder)).stat(place)
