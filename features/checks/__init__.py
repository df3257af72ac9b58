"""Whether the data may be trained on: quality checks, contamination, and whether another model is due."""
