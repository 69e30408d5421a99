#!/bin/sh
# vLLM for CUDA, into an environment that has base.txt already. The image and the GPU nodes of
# cluster.yaml run this.
#
# Pinned: vLLM, and all that base.txt pins, but numpy, of which vLLM wants an older one.
# What else vLLM asks for, pip chooses on the day.
set -eu
constraints=$(mktemp)
sed -nE 's/^([A-Za-z0-9._-]+)(\[[a-z,]+\])?(==[^\\]*[^\\ ]) *\\$/\1\3/p' "$(dirname "$0")/base.txt" |
  grep -v '^numpy==' > "$constraints"
pip install --quiet --no-cache-dir --constraint "$constraints" vllm==0.32.0
# Asked for, used for pictures and sound only, and in the way of vLLM's import.
pip uninstall --quiet --yes torchvision torchaudio torchcodec
rm "$constraints"
