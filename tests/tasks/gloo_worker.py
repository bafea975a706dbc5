"""One of two workers that evaluate together: prints the reduced metrics as JSON. Run by a test."""

import json
import sys

import torch
import torch.distributed as dist

from ablator.tasks.classification import build

rank, address, data = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
outputs, targets, shares = torch.load(data, weights_only=True)
results = []
for share in shares:
    metrics = build(outputs.shape[1], 0.1).metrics("cpu")
    for index in share[rank]:
        metrics.update(outputs[index], targets[index])
    results.append(metrics.compute())
dist.destroy_process_group()
print(json.dumps(results))
