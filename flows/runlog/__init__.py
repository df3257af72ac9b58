"""What a run says of itself: in the terminal, in logs, and in Prefect's UI."""
