"""A mutation fuzzer. Randomly damaged ONNX files, text forms and artifacts must give a result or a ``ConvcError``."""
