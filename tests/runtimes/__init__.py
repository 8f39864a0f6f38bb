"""Processes that share work, and graphs of ONNX."""
