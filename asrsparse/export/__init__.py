"""Handing a trained model over: to ESPnet, to Hugging Face's hub, to ONNX."""
