"""All benchmarks, one after the other: ``python -m benchmarks [--images DIR]``.

Those of builds and of accuracy need photos; DIR holds them, and ``labels.csv`` for the latter.
Those of widgets run where Chromium is installed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run each benchmark in a process of its own; returns how many failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path)
    images = parser.parse_args().images
    images = None if images is None else images.expanduser()
    commands = [
        ["search_reference"],
        ["in_ram"],
        ["products"],
        ["checksums"],
        ["scale"],
        ["scan", "--suites", "local", "batches", "overhead"],
        ["scan", "--dtype", "float32", "--suites", "local"],
        ["scan", "--images", "50000", "--suites", "memory", "linear", "cluster"],
        ["scan_s3"],
        ["flow"],
    ]
    if images is not None:
        given = ["--images", str(images)]
        ways = ([], ["--cluster"], ["--workers"], ["--memory"])
        commands += [["build", *given, *way] for way in ways]
        if (images / "labels.csv").exists():
            commands.insert(0, ["top1", *given])
    if shutil.which("chromium") is not None:
        commands += [["widgets"], ["search_panel"]]
    failed = 0
    for name, *arguments in commands:
        print(f"\n== python -m benchmarks.{' '.join([name, *arguments])}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
        failed += subprocess.run(command, check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
