"""Workspaces on any file system: reading, listing, create-only writes, asking again."""
