"""Measurements that print ours, the peer's and the floor in one run."""
