"""Caches between workspaces: mirroring, pruning, importing."""
