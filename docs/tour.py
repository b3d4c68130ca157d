# %% [markdown]
# # A tour of hybrids
#
# A stack of layers that mixes a recurrent layer with attention: what it reads, what it carries from token to token,
# and how it learns beside a stack of attention alone and one of recurrence alone. All of it takes about a minute
# on one core. The functions are those of `import hybrids as hy` ([docs/python.md](python.md)); run folders go to
# `runs/`, and a second pass opens them instead of training again.

# %%
import matplotlib.pyplot as plt

import hybrids as hy

# %% [markdown]
# ## A stack and a batch
#
# The pattern is the stack: `LA` is a recurrent layer `L` (a gated delta net, unless you bind the letter to another
# mixer), then full attention `A`. The task is associative recall: pairs of a key and a value come first, and later
# every key comes again and asks for its value.

# %%
SIZES = ("task.length=32", "task.num_pairs=4", "task.vocab_size=128")
model, task = hy.build("LA", *SIZES, task="mqar", d_model=32)
batch = hy.sample(task, 8)
print("tokens   ", batch.tokens[0].tolist())
print("asked at ", batch.positions[0].tolist())
print("answers  ", batch.targets[0].tolist())

# %% [markdown]
# The first eight tokens are the four pairs, and each position that is asked holds one of the keys. The model answers
# at these positions; nothing is trained yet, so it guesses.

# %%
loss, is_right = model.answer(batch)
logits, cache = model(batch.tokens, positions=batch.positions)
print(f"loss {loss.item():.2f} nats, {int(is_right.sum())} of {is_right.numel()} answers right, by chance one in 64")
print(f"logits {tuple(logits.shape)}: examples, questions, vocabulary")

# %% [markdown]
# ## What it carries
#
# The `cache` is what the next token needs of all tokens before: the recurrent layer keeps a matrix of one size,
# attention keeps keys and values of every token. `hy.measure` counts both on a real state and a real step.
# *Compactness* is 1 where the state does not grow with the context and 0 where it doubles with it; *Efficiency* says
# the same of the FLOPs of a step.

# %%
print(f"{'pattern':8} {'tokens':>6} {'state bits':>12} {'step FLOPs':>12} {'Efficiency':>11} {'Compactness':>12}")
for pattern in ("LL", "LA", "AA"):
    stack, _ = hy.build(pattern, *SIZES, d_model=32)
    for context in (32, 1024):
        cost = hy.measure(stack, context)
        numbers = f"{cost.state_bits:12,} {cost.step_flops:12,} {cost.efficiency:11.2f} {cost.compactness:12.2f}"
        print(f"{pattern:8} {context:6} {numbers}")

# %% [markdown]
# ## Train the hybrid, and both pure stacks
#
# Three stacks of two layers, 400 steps each, with the settings of the command line. `hy.train` writes the run folder
# that `hybrids train` would write.

# %%
SETTINGS = (
    *SIZES,
    *("optim.lr=0.01", "data.batch_size=32", "trainer.max_steps=400", "trainer.val_every=50"),
    *("data.num_val_examples=256", "data.num_test_examples=256", "data.num_recall_examples=256"),
    "trainer.progress_bar=false",
)
trained = {pattern: hy.train(pattern, *SETTINGS, task="mqar", d_model=32) for pattern in ("LA", "AA", "LL")}

# %% [markdown]
# `hy.runs` lists what is finished in `runs/`, a row for each run; with pandas, `pandas.DataFrame(hy.runs())` is a
# table. *Recall* is what the answers prove to be known of the facts, over all the bits that the facts have.

# %%
ours = {str(run.path) for run in trained.values()}
rows = sorted((row for row in hy.runs() if row["path"] in ours), key=lambda row: -row["accuracy"])
columns = ("accuracy", "chance", "efficiency", "compactness", "recall", "state_bits", "step_flops")
print(f"{'pattern':8}" + "".join(f"{name:>12}" for name in columns))
for row in rows:
    print(f"{row['pattern']:8}" + "".join(f"{row[name]:12,.{0 if row[name] > 1 else 2}f}" for name in columns))

# %% [markdown]
# The accuracy while they train, and how much of the facts each recalls at 1, 2 and 4 times the context of its
# training:

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for (pattern, run), marker in zip(trained.items(), "os^", strict=True):
    scores = [(row["step"], row["val/accuracy"]) for row in run.metrics if "val/accuracy" in row]
    left.plot(*zip(*scores, strict=True), marker=marker, label=pattern)
    places = [(place["context"], place["recall"]) for place in run.result["triangle"]]
    right.plot(*zip(*places, strict=True), marker=marker, label=pattern)
left.set(xlabel="training steps", ylabel="validation accuracy", ylim=(0, 1))
right.set(xlabel="tokens, facts in proportion", ylabel="Recall", ylim=(0, 1), xscale="log")
right.set_xticks([32, 64, 128], labels=["32", "64", "128"])
right.minorticks_off()
left.legend()

# %% [markdown]
# Two layers of attention stay at one answer in four: they have found that the answer is one of the four values, and
# not yet which ([docs/compare.md](compare.md) has what helps). The recurrent stack carries the least and leaves that
# level too, later than the hybrid, which carries less than `AA`. One learning rate and one seed are no comparison of
# architectures: for that, train several of both, `hybrids train -m optim.lr=1e-3,3e-3,1e-2 seed=0,1,2`, and compare
# them with `hybrids report`.
#
# ## What it has learned
#
# A run is opened by its folder, with the weights of its last checkpoint:

# %%
run = hy.load(trained["LA"].path)
batch = hy.sample(run.task, 256, split="test")
loss, is_right = run.model.answer(batch)
wrong = int((~is_right.bool().all(dim=1)).sum())
print(f"{is_right.double().mean():.3f} of the answers are right; {wrong} of 256 test examples hold a wrong one")
