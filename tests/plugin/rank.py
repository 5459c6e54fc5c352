"""One rank of a distributed program that never ends by itself, as `torchrun` starts it."""

import time

import torch.distributed

__all__: list[str] = []

torch.distributed.init_process_group("gloo")
torch.distributed.barrier()
time.sleep(300)
