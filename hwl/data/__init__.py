"""Data: annotation files, person crops and their augmentation, downloads, conversions."""
