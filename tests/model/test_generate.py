"""Generated tokens are those of re-running the whole prefix, one prompt at a time, whatever shares the batch."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrids.model.block import Block, Choice, Letter
from hybrids.model.generate import TIE, Sampling, generate
from hybrids.model.model import Model
from hybrids.pattern import Pattern
from hybrids.registry import get

VOCAB, WIDTH = 13, 16
PROMPTS = [[1, 2, 3, 4, 5, 6, 7], [8, 9], [10, 11, 12, 0, 1, 2, 3, 4, 5, 6, 7, 8], [3, 3, 3]]
STACKS = {
    "attention": "AA",
    "sliding": "SS",
    "linear": "LL",
    "delta": "GG",
    "hybrid": "LSGA",
    "sum": "L+A.G",
    "two streams": "G:A.L:S",
    "channel layer": "LCA",
}


def letters():
    swiglu = Choice(get("channel", "swiglu").cls)
    mixers = {
        "A": Choice(get("mixer", "attention").cls),
        "S": Choice(get("mixer", "sliding_attention").cls, {"window": 4}),
        "L": Choice(get("mixer", "linear_attention").cls, {"chunk_size": 4}),
        "G": Choice(get("mixer", "gated_delta_net").cls, {"chunk_size": 4}),
    }
    return {**{name: Letter(mixer, swiglu) for name, mixer in mixers.items()}, "C": Letter(None, swiglu)}


def make_model(pattern, dtype=torch.float32):
    torch.manual_seed(0)
    model = Model(VOCAB, WIDTH, Pattern.parse(pattern), letters(), tie_embeddings=False)
    with torch.no_grad():
        model.head.weight.mul_(3)  # so that samples are neither uniform nor always the best token
        for block in model.backbone.blocks:
            assert isinstance(block, Block)
            if block.stream_gate is not None:
                block.stream_gate.fill_(0.8)
    return model.to(dtype)


@torch.no_grad()
def rerun(model, prompt, num):
    """Tokens and logits without any cache."""
    tokens, seen = list(prompt), []
    for _ in range(num):
        logits = model(torch.tensor([tokens]))[0][0, 0]
        seen.append(logits)
        tokens.append(int(logits.argmax()))
    return tokens[len(prompt) :], torch.stack(seen)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("stack", STACKS)
def test_ragged_prompts_give_what_rerunning_each_prefix_gives(stack, dtype):
    model = make_model(STACKS[stack], dtype)
    out = generate(model, PROMPTS, max_new_tokens=9, keep_logits=True)
    assert out.logits is not None
    for prompt, tokens, logits in zip(PROMPTS, out.tokens, out.logits, strict=True):
        expected, seen = rerun(model, prompt, 9)
        assert tokens == expected
        scale = seen.abs().max().item()
        torch.testing.assert_close(logits, seen, rtol=0, atol=scale * (3e-6 if dtype == torch.float32 else 1e-14))


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=1.5, seed=3), Sampling(temperature=2.0, top_k=3)]
)
@pytest.mark.parametrize("stack", ["hybrid", "two streams"])
def test_a_row_does_not_depend_on_its_batch(stack, sampling):
    model = make_model(STACKS[stack])
    together = generate(model, PROMPTS, max_new_tokens=12, sampling=sampling, stop_tokens=[5])
    for i, prompt in enumerate(PROMPTS):
        alone = generate(model, [prompt], max_new_tokens=12, sampling=sampling, stop_tokens=[5], index=[i])
        assert alone.tokens == [together.tokens[i]]
        assert alone.is_stopped == [together.is_stopped[i]]


def test_rows_are_sampled_independently_and_repeatably():
    model = make_model("LA")
    runs = [
        generate(model, [[1, 2]] * 4, max_new_tokens=20, sampling=Sampling(temperature=3.0, seed=seed)).tokens
        for seed in (0, 0, 1)
    ]
    assert runs[0] == runs[1]
    assert len({tuple(row) for row in runs[0] + runs[2]}) == 8


LOGITS = torch.tensor([0.3, -1.0, 2.0, 0.9, -torch.inf])


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (0.5, None), (2.0, 3)])
def test_samples_follow_the_softmax(temperature, top_k):
    num = 40_000
    sampling = Sampling(temperature=temperature, top_k=top_k, seed=1)
    logits = LOGITS.clamp_min(-30.0)
    chosen = sampling.choose(logits.expand(num, -1), torch.arange(num), 7)
    kept = logits if top_k is None else logits.where(logits >= logits.sort().values[-top_k], -torch.inf)
    expected = (kept / temperature).softmax(-1)
    share = chosen.bincount(minlength=len(logits)) / num
    deviation = (expected * (1 - expected) / num).sqrt()
    assert ((share - expected).abs() <= 4 * deviation + 1e-9).all()


def test_ties_go_to_the_first_token_also_when_rounding_splits_them():
    logits = torch.tensor([[1.0, 4.0, 4.0 * (1 + TIE / 4), 4.0]])
    assert Sampling().choose(logits, torch.arange(1), 0).tolist() == [1]
    tied = Sampling(temperature=1.0, top_k=1).choose(logits.expand(200, -1), torch.arange(200), 0)
    assert set(tied.tolist()) == {1, 2, 3}


def test_a_stop_token_ends_its_row_and_is_kept():
    model = make_model("LSGA")
    free = generate(model, PROMPTS, max_new_tokens=10)
    stop = free.tokens[0][3]
    out = generate(model, PROMPTS, max_new_tokens=10, stop_tokens=[stop])
    for whole, tokens, is_stopped in zip(free.tokens, out.tokens, out.is_stopped, strict=True):
        end = whole.index(stop) + 1 if stop in whole else 10
        assert tokens == whole[:end]
        assert is_stopped == (stop in whole)
    assert out.num_generated == [len(tokens) for tokens in out.tokens]
    assert True in out.is_stopped


def test_forced_tokens_are_consumed_like_a_longer_prompt():
    model = make_model("GA")
    forced = [[4, 5, 6], [], [7], [1, 1]]
    out = generate(model, PROMPTS, max_new_tokens=5, forced=forced)
    longer = [prompt + tokens for prompt, tokens in zip(PROMPTS, forced, strict=True)]
    expected = generate(model, longer, max_new_tokens=5)
    assert out.tokens == [tokens + rest for tokens, rest in zip(forced, expected.tokens, strict=True)]
    assert out.num_forced == [3, 0, 1, 2]
    assert out.num_generated == [5] * 4


def test_logits_of_forced_tokens_are_those_the_model_would_have_chosen_from():
    model = make_model("LA", torch.float64)
    out = generate(model, [[1, 2, 3]], max_new_tokens=1, forced=[[4, 5]], keep_logits=True)
    with torch.no_grad():
        expected = model(torch.tensor([[1, 2, 3, 4, 5]]), positions=torch.tensor([[2, 3, 4]]))[0]
    assert out.logits is not None
    torch.testing.assert_close(out.logits[0], expected[0])


def answer_search(position, rows):
    """A tool: after an even token the row must read that token plus one, twice."""
    assert all(position == len(row.prompt) + len(row.tokens) for row in rows)
    return {row.number: [(row.tokens[-1] + 1) % VOCAB] * 2 for row in rows if row.tokens[-1] % 2 == 0}


@pytest.mark.parametrize("stack", STACKS)
def test_a_hook_answers_and_rows_stay_independent(stack):
    model = make_model(STACKS[stack])
    together = generate(model, PROMPTS, max_new_tokens=6, hook=answer_search, stop_tokens=[9])
    assert sum(together.num_forced) > 0
    for i, prompt in enumerate(PROMPTS):
        alone = generate(model, [prompt], max_new_tokens=6, hook=answer_search, stop_tokens=[9])
        assert alone.tokens[0] == together.tokens[i]
        expected, row = list(prompt), []
        while sum(origin == "model" for _, origin in row) < 6 and not (row and row[-1] == (9, "model")):
            token = rerun(model, expected, 1)[0][0]
            row.append((token, "model"))
            is_over = token == 9 or sum(origin == "model" for _, origin in row) == 6
            if token % 2 == 0 and not is_over:
                row += [((token + 1) % VOCAB, "tool")] * 2
            expected = list(prompt) + [value for value, _ in row]
        assert together.tokens[i] == [value for value, _ in row]
        assert together.num_forced[i] == sum(origin == "tool" for _, origin in row)


@settings(max_examples=20)
@given(st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=9), min_size=1, max_size=4))
def test_any_prompts_give_what_they_give_alone(prompts):
    model = make_model("SG+A", torch.float64)
    out = generate(model, prompts, max_new_tokens=4)
    assert out.tokens == [generate(model, [prompt], max_new_tokens=4).tokens[0] for prompt in prompts]


@pytest.mark.parametrize(("stop_tokens", "expected"), [((), 1), ((VOCAB - 1,), 6)])
def test_the_host_reads_tokens_only_for_stop_tokens_and_hooks(monkeypatch, stop_tokens, expected):
    reads = []
    tolist = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda x: reads.append(x) or tolist(x))
    for name in ("item", "__bool__", "__int__", "__float__", "cpu"):
        monkeypatch.setattr(torch.Tensor, name, lambda *_: pytest.fail("the host waits for the device"))
    model = make_model("L")
    generate(model, PROMPTS[:2], max_new_tokens=1, stop_tokens=stop_tokens)  # the other row starts 5 tokens later
    assert len(reads) == expected


def test_the_model_is_left_in_the_mode_it_was_in():
    model = make_model("LA").train()
    model.backbone.blocks[0].eval()
    before = [module.training for module in model.modules()]
    generate(model, [[1]], max_new_tokens=2)
    assert [module.training for module in model.modules()] == before


def search_row_7(position, rows):
    return {7: [1]}


def search_token_99(position, rows):
    return {0: [99]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": []}, "prompts is empty"),
        ({"prompts": [[1], []]}, "prompt 1 is empty"),
        ({"prompts": [[1, 13]]}, r"prompt 0: token 13 .* allowed: 0 to 12"),
        ({"max_new_tokens": 0}, "max_new_tokens=0 must be at least 1"),
        ({"stop_tokens": [-1]}, "stop_tokens: token -1"),
        ({"forced": [[1], [2]]}, "forced has 2 entries; 1 are needed"),
        ({"forced": [[44]]}, "forced tokens of row 0: token 44"),
        ({"index": []}, "index has 0 entries; 1 are needed"),
        ({"hook": search_row_7}, "the hook answers row 7"),
        ({"hook": search_token_99}, "answer of the hook to row 0: token 99"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    arguments = {"prompts": [[1, 2]], "max_new_tokens": 3, **change}
    with pytest.raises(ValueError, match=message):
        generate(make_model("L"), **arguments)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"temperature": math.inf}, "temperature=inf"),
        ({"top_k": 0}, "top_k=0"),
    ],
)
def test_impossible_sampling_is_refused(settings_, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**settings_)
