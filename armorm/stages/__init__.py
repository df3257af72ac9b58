"""The model's stages over the store: each reads committed artifacts, calls the mathematics, commits its result.

regress -> decorrelate -> gate -> model -> evaluate
"""
