"""The training loop: step, optimiser, schedule, mixing, precision, evaluation and checkpoint.

It knows torch, timm and the contracts; nothing of Ray, MLflow or study files.
"""
