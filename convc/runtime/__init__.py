"""All that running a compiled model takes: the standard library, numpy and ml_dtypes, and nothing that compiling takes."""
