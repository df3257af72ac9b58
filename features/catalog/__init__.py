"""DuckDB over a snapshot: views, queries in a process of their own, questions, differences, notebooks."""
