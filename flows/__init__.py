"""Wiring: the command line, and the flows that schedule and watch long work."""
