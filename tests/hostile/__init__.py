"""A mutation fuzzer: ONNX files, text forms and artifacts, damaged at random,
must give a result or a ``ConvcError``.
"""
