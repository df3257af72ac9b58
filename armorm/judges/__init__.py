"""Whatever can order two answers, on the held-out pairs of a store."""
