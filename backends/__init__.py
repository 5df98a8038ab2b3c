"""The backends, which are the only code that imports TVM."""
