"""The model's stages over the store: each reads committed artifacts, calls the mathematics, commits its result.

Their order stands in `armorm.stages.pipeline`.
"""
