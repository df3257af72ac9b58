"""The command line: every command, and how it is stopped."""
