"""Models, their ONNX Runtime sessions, and what is read out of the pair map."""
