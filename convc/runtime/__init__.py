"""The runtime, which loads and runs compiled models.

It imports only the standard library, numpy and ml_dtypes, and nothing that compiling needs.
"""
