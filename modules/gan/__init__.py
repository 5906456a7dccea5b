"""Generative adversarial networks: losses, networks, training steps and sample metrics."""
