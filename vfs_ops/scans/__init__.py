"""Searching caches: queries, plans, scans on threads and clusters, hits, analyses."""
