"""Backpropagation of whole topics by hand, composed of the gradients of single layers in `modules`."""
