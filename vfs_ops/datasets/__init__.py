"""Datasets: sources, ingestion, manifests, previews, filters on metadata."""
