"""What transformers' configurations mean by an interval, a period or a string is what we read."""

import pytest

from hybrids.notation.blocks import from_layer_types, to_jamba, to_layer_types, to_qwen3_next
from hybrids.notation.sublayers import from_nemotron_h, to_layers_block_type, to_nemotron_h


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers", reason="transformers is a development dependency")


@pytest.mark.parametrize(("depth", "interval"), [(1, 4), (8, 4), (9, 3), (5, 1), (3, 7)])
def test_qwen3_next_intervals_mean_what_transformers_means(transformers, depth, interval):
    given = {"num_hidden_layers": depth, "full_attention_interval": interval}
    outside = transformers.Qwen3NextConfig(**given).layer_types
    pattern = from_layer_types(given).pattern
    assert pattern == from_layer_types(outside).pattern
    assert to_layer_types(pattern)["layer_types"] == outside
    assert transformers.Qwen3NextConfig(**to_qwen3_next(pattern)).layer_types == outside


@pytest.mark.parametrize(("depth", "period", "offset"), [(8, 8, 4), (32, 8, 4), (4, 4, 3), (5, 1, 0), (3, 8, 4)])
def test_jamba_periods_mean_what_transformers_means(transformers, depth, period, offset):
    given = {"num_hidden_layers": depth, "attn_layer_period": period, "attn_layer_offset": offset}
    config = transformers.JambaConfig(**given)
    pattern = from_layer_types(given).pattern
    assert pattern == from_layer_types(config.layer_types).pattern
    assert pattern == from_layer_types(config.layers_block_type).pattern, "the legacy names mamba and attention"
    assert transformers.JambaConfig(**to_jamba(pattern)).layer_types == config.layer_types


def test_jamba_defaults_are_those_of_transformers(transformers):
    outside = transformers.JambaConfig(num_hidden_layers=16).layer_types
    assert (
        from_layer_types({"num_hidden_layers": 16, "attn_layer_offset": 4}).pattern == from_layer_types(outside).pattern
    )


@pytest.mark.parametrize("text", ["ME*-", "M-M-M-*-", "MMM*", "*", "M", "-", "MEM*EM-"])
def test_nemotron_strings_mean_what_transformers_means(transformers, text):
    config = transformers.NemotronHConfig(hybrid_override_pattern=text)
    read = from_nemotron_h(text)
    assert read == from_nemotron_h(config.layers_block_type)
    assert to_layers_block_type(read.pattern, **read.settings) == config.layers_block_type
    assert to_nemotron_h(read.pattern, **read.settings) == config.hybrid_override_pattern
