"""What is done with a finished model: compare it with another, export it, report on it."""
