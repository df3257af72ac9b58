"""The configuration: one file, read once."""
