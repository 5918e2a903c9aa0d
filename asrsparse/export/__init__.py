"""Exports of trained models to ESPnet, Hugging Face and ONNX, and of prepared corpora to Kaldi."""
