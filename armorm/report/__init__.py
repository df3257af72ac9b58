"""Records become tables, and tables become terminal output, Markdown, pages and plots."""
