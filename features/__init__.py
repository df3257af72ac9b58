"""The feature store: datasets in their native form become tables and vectors that can be queried and trusted.

Importing this package loads neither torch, transformers, duckdb nor prefect.
"""
