"""Building caches: planning, computing on workers, repairing, verifying."""
