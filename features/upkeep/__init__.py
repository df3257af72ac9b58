"""Keeping a store: integrity, collection, and whether a machine can do what is asked of it."""
