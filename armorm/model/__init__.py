"""The reward model as one value: loaded, saved, compared, described."""
