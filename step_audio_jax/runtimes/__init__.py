"""What others run for us: processes that share work, graphs of ONNX."""
