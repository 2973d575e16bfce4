"""Caches of feature maps: their layout on the store, shards, receipts, reading."""
