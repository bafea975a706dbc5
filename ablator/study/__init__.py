"""What a user wrote: the study document, its files, overlays and search spaces."""
