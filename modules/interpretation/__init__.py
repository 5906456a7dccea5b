"""Interpretation: saliency, Grad-CAM, fooling images, class visualization and feature extraction."""
