"""The made-up world that the sample's native files are written from."""
