"""Interpretation: saliency, Grad-CAM, fooling images, class visualization, feature extraction, receptive fields."""
