"""Export of a trained network to ONNX files, verified against PyTorch."""
