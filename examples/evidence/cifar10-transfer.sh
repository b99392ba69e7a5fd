#!/bin/sh
# How often adversarial images of a PreAct-ResNet-20 fool other models, by PGD, the momentum method and the Skip Gradient
# Method: on the models of cifar10-connections.yaml and cifar10-mimicnorm.yaml, which are trained first.
#
#   sh examples/evidence/cifar10-transfer.sh
set -eu
models=runs/compare/runs
for momentum in 0 1; do
    python -m skipln_fairseq.attack --all-blocks --gammas 1 0.7 0.4 0.2 --momentum "$momentum" --images 1000 \
        --source "$models"/PreAct-ResNet-20/plain/seed-1-*/checkpoint_best.pt \
        --targets "$models"/PreAct-ResNet-20/plain/seed-2-*/checkpoint_best.pt \
        "$models"/PreAct-ResNet-20/rSkip+LN_2/seed-1-*/checkpoint_best.pt \
        "$models"/PreAct-ResNet-56/plain/seed-1-*/checkpoint_best.pt \
        "$models"/VGG-11/BatchNorm/seed-2-*/checkpoint_best.pt \
        --output "examples/evidence/cifar10-transfer/momentum-$momentum"
done
