"""Adversarial images by the Skip Gradient Method, and whether they transfer to other models."""
