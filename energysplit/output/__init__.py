"""What a run leaves on disk: checkpoints, an ONNX model with its parity, figures and a report.

Everything is written so that a kill at any moment leaves either the old or the new (`atomic`).
"""
