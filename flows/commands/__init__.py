"""The subcommands of `vfs`, one module for each kind of work."""
