"""The model's stages over the store: each reads committed artifacts, calls the mathematics, commits its result.

statistics -> regress -> decorrelate -> gate -> model -> evaluate -> promote
"""
