"""What all jobs are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from flows.watching import Watcher


@dataclass(frozen=True, kw_only=True)
class Job:
    """Work described by plain JSON values, which are the parameters of the flow that runs it."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}
    """So that the descriptions of the fields are those of the flow's parameters."""

    def run(self, watcher: Watcher | None = None) -> Any:
        """Do the work.

        Parameters
        ----------
        watcher
            Told of stages, progress and what was found; nobody by default.
        """
        raise NotImplementedError
