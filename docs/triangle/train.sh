#!/bin/bash
# Train what docs/triangle shows: bash docs/triangle/train.sh recall|trajectory
# Every training is an ordinary run in runs/triangle, so each command goes on where it was interrupted.
set -eu
common="task=mqar trainer.threads=1 trainer.progress_bar=false logger=csv runs_dir=runs/triangle"

search() { # 1 ... 16 facts of 10 bits in one training
    hybrids capacity $common +mixer@mixers.C=short_conv pattern=CL task.vocab_size=2048 task.length=64 max_facts=16 \
        min_utilisation=0 data.num_val_examples=512 trainer.val_every=200 mixer@mixers.L=$1 ${@:2}
}

case $1 in
recall) # three sizes of state, two seeds, two learning rates; then longer for the mixers that were slow
    for size in 64,1,32,3e-3+1e-2 32,1,16,1e-2+3e-2 32,8,2,1e-2+3e-2; do
        IFS=, read -r width heads d_state rates <<<"$size"
        heads="model.d_model=$width mixers.L.num_heads=$heads"
        budget="steps=1000 seeds=2 rates=${rates/+/,}"
        search linear_attention $heads $budget
        search delta_net $heads mixers.L.conv_size=1 $budget
        search gla $heads mixers.L.expand_k=1 $budget
        search mamba2 model.d_model=$width mixers.L.conv_size=1 mixers.L.d_state=$d_state $budget
    done
    search attention model.d_model=64 steps=1000 seeds=2 rates=3e-3,1e-2
    search attention model.d_model=32 steps=1000 seeds=2 rates=3e-3,1e-2
    search attention model.d_model=16 steps=1000 seeds=2 rates=1e-2,3e-2
    search gla model.d_model=64 mixers.L.num_heads=1 mixers.L.expand_k=1 steps=3000 seeds=2 rates=3e-3
    search mamba2 model.d_model=64 mixers.L.d_state=32 steps=2000 seeds=1 rates=1e-2
    ;;
trajectory) # a fact of 8 bits for every 4 tokens
    python train.py -m $common sweep=trajectory context=16,32,64 optim.lr=1e-2,3e-3 task.vocab_size=512 \
        task.num_pairs=16 task.distinct_values=false trainer.max_steps=600 trainer.val_every=100 \
        data.num_val_examples=512
    ;;
*) echo "unknown: $1; allowed: recall, trajectory" >&2 && exit 2 ;;
esac
