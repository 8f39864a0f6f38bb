"""Other people's files: pickles, ONNX, HyperPyYAML, torch archives."""
