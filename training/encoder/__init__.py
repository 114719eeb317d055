"""Makes the encoders that serving loads: a static matrix distilled from a transformer, or its ONNX export."""
