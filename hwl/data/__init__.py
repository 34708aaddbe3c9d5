"""Data: annotation files, person crops and their augmentation, puppets, downloads."""
