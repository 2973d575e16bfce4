"""Nothing phones home: what Prefect is told before it is imported."""

from __future__ import annotations

import os
from typing import Final

VARIABLES: Final = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
"""Usage statistics of Prefect's client and server. Embedded servers and processes that run flows
inherit them."""


def keep_private() -> None:
    """Set the variables, unless the person has set them otherwise."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
