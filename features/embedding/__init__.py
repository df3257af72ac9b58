"""Embedding. transformers is told here, before any module imports it, to fetch no kernels from the Hub."""

import os

# With the package `kernels` it would fetch compiled code for some kinds of model, unasked, and run it.
os.environ.setdefault("USE_HUB_KERNELS", "NO")
