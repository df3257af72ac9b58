"""From native files to canonical tables in the store."""
