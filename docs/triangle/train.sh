#!/bin/bash
# Train what docs/triangle shows: bash docs/triangle/train.sh recall|interference|trajectory
# Every training is an ordinary run, so each command goes on where it was interrupted.
set -eu
common="task=mqar trainer.threads=1 trainer.progress_bar=false logger=csv data.num_val_examples=512"
alone="$common runs_dir=runs/triangle +mixer@mixers.C=short_conv pattern=CL task.vocab_size=2048 trainer.val_every=200"

search() { # 1 ... 16 facts of 10 bits in one training
    hybrids capacity $alone task.length=64 max_facts=16 min_utilisation=0 mixer@mixers.L=$1 ${@:2}
}

longer() { # 1 ... 8 facts in 64 or 256 tokens, asked anywhere
    python train.py $alone task.length=256 task.num_pairs=8 task.power=1 task.distinct_values=false mixer@mixers.L=$1 ${@:2} \
        task.segments=[[64,1,1],[64,2,1],[64,4,1],[64,8,1],[256,1,1],[256,2,1],[256,4,1],[256,8,1]]
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
        search gla $heads mixers.L.expand_k=1 steps=3000 seeds=2 rates=${rates%%+*}
        search mamba2 model.d_model=$width mixers.L.conv_size=1 mixers.L.d_state=$d_state steps=5000 seeds=2 rates=1e-2
    done
    search attention model.d_model=64 steps=1000 seeds=2 rates=3e-3,1e-2
    search attention model.d_model=32 steps=1000 seeds=2 rates=3e-3,1e-2
    search attention model.d_model=16 steps=1000 seeds=2 rates=1e-2,3e-2
    ;;
interference)
    longer linear_attention mixers.L.num_heads=1 optim.lr=1e-2 trainer.max_steps=1500
    longer attention optim.lr=1e-2 trainer.max_steps=1500
    longer delta_net mixers.L.num_heads=1 mixers.L.conv_size=1 optim.lr=1e-2 trainer.max_steps=1500
    longer delta_net mixers.L.num_heads=1 mixers.L.conv_size=1 optim.lr=3e-3 trainer.max_steps=2500
    ;;
trajectory) # a fact of 9 bits for every 4 tokens, 1 ... all of them in one training; the second rate where it was needed
    sweep() {
        python train.py -m $common runs_dir=runs/trajectory sweep=trajectory context=64,32,16 vary_facts=true \
            batch_tokens=4096 task.vocab_size=1024 task.num_pairs=16 task.length=64 task.distinct_values=false \
            mixers.A.rope_theta=100 trainer.max_steps=2000 trainer.val_every=100 $@
    }
    sweep optim.lr=6e-3
    sweep optim.lr=1e-2 pattern=AAAA
    sweep optim.lr=3e-3,2e-2 pattern=AAAA context=32
    ;;
*) echo "unknown: $1; allowed: recall, interference, trajectory" >&2 && exit 2 ;;
esac
