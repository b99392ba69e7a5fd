"""How many images a second one process reads, changes by chance and puts into batches, as a training has them.

python examples/evidence/cifar10-loading.py runs/cifar10-subset
"""

import argparse
import time

from skipln_fairseq.images.task import ImageClassificationTask

BATCH = 64
BATCHES = 200

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ImageClassificationTask.add_args(parser)
task = ImageClassificationTask(parser.parse_args())
start = time.perf_counter()
task.load_dataset("train")
images = task.datasets["train"]
print(f"{len(images)} images read in {time.perf_counter() - start:.1f} s")
start = time.perf_counter()
for batch in range(BATCHES):
    images.collater([images[(BATCH * batch + n) % len(images)] for n in range(BATCH)])
print(f"{BATCH * BATCHES / (time.perf_counter() - start):,.0f} images a second")
