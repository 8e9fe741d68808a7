"""From a trained network to one ONNX file that any program can run, verified against PyTorch."""
