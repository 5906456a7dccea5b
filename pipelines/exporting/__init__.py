"""Export formats: ONNX, TorchScript and safetensors."""
