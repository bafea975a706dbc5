"""Tokenizers that take the place of a backbone's patch projection, or follow it: one kind a file."""
