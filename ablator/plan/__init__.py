"""From a study to its trials: designs, resolved specs and their identity."""
