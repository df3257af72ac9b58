"""The typed result of every stage; it imports the mathematics' small values, config and errors.

A field is added in one line: with a default, which is what an older record lacks.
"""
