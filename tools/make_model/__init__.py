"""The recipe that turns published EfficientNet-Lite weights into an ONNX file."""
