"""Settings of tasks that take every branch of their generators, by name."""

from published_mqar import FIGURE_2
from questions import MODES

QUESTIONS = {
    "index": [{}, {"num_tokens": 1, "num_symbols": 2}, {"num_tokens": 200, "num_symbols": 5}],
    "associative_recall": [
        {},
        {"num_tokens": 2, "num_symbols": 3},
        {"num_tokens": 40, "num_symbols": 40},
        {"num_tokens": 60, "num_symbols": 7, "distinct_symbols": False},
    ],
    "cgram_retrieval": [
        {},
        {"num_tokens": 3, "num_symbols": 3},
        {"num_tokens": 50, "num_symbols": 3},
        {"num_tokens": 30, "gram_length": 2, "num_symbols": 3},
        {"num_tokens": 80, "gram_length": 5, "num_symbols": 5},
    ],
    "counting": [{}, {"num_tokens": 1, "num_symbols": 2, "max_count": 1}, {"num_tokens": 100, "max_count": 100}],
}


def in_both_modes(several):
    return [{"mode": mode, **settings} for settings in several for mode in MODES]


SETTINGS = {
    "associative_recall": in_both_modes(QUESTIONS["associative_recall"]),
    "cgram_retrieval": in_both_modes(QUESTIONS["cgram_retrieval"]),
    "copying": [
        {"num_tokens": 1, "delay": 0, "num_symbols": 2},
        {"num_tokens": 1, "delay": 0, "num_symbols": 2, "shows_answers": True},
        {"num_tokens": 30, "delay": 7, "num_symbols": 5},
        {"num_tokens": 30, "delay": 7, "num_symbols": 5, "shows_answers": True},
        {},
        {"shows_answers": True},
    ],
    "counting": in_both_modes(QUESTIONS["counting"]),
    "flip_flop": [{}, {"length": 512, "ignore_percent": 98}, {"length": 4, "ignore_percent": 0}],
    "function_composition": [
        {},
        {"order": "reversed"},
        {"start_size": 8, "fan_outs": [4]},
        {"start_size": 4, "fan_outs": [4, 4], "query": "spelled"},
        {"start_size": 3, "fan_outs": [1, 3, 2], "order": "reversed"},
        {"start_size": 2, "fan_outs": [2, 1, 3], "order": "reversed", "query": "spelled"},
    ],
    "function_evaluation": [
        {},
        {"query_order": "prefix"},
        {"num_entries": 2},
        {"num_entries": 7, "max_entries": 7},
        {"num_entries": 200},
    ],
    "index": in_both_modes(QUESTIONS["index"]),
    "induction": [{}, {"length": 3, "num_symbols": 2}, {"length": 256}],
    "modular_arithmetic": [
        {},
        {"length": 30, "min_length": 3, "precedence": "left_to_right"},
        {"length": 2, "modulus": 2},
        {"length": 100, "brackets": True, "multiplies": False},
        {"length": 40, "min_length": 2, "brackets": True, "modulus": 13},
    ],
    "mqar": [
        {"length": 64, "num_pairs": 4},
        {"length": 64, "num_pairs": 16},
        {"length": 256, "num_pairs": 64},
        {"length": 48, "num_pairs": 8, "vocab_size": 18, "num_passes": 2},
        {"length": 256, "num_pairs": 64, "distinct_values": False},
        {"length": 256, "num_pairs": 64, "segments": FIGURE_2},
    ],
    "mqar_two_token_keys": [{}],
    "mqar_updates": [{}],
    "ngram_retrieval": [
        {},
        {"max_length": 100, "min_length": 50},
        {"max_length": 100, "min_length": 50, "query_order": "prefix"},
        {"max_length": 400, "query_length": 3, "answer_length": 1},
        {"max_length": 100, "num_duplicates": 4, "occurrence": 3},
        {"max_length": 61, "min_length": 22, "num_duplicates": 4, "num_symbols": 4, "query_order": "prefix"},
        {"num_symbols": 2, "query_length": 4},
        {"num_symbols": 2, "max_length": 60, "min_length": 5},
        {"num_symbols": 5000, "query_length": 3, "answer_length": 6, "num_duplicates": 2, "occurrence": 2},
        {"num_symbols": 3, "query_length": 1, "answer_length": 1, "max_length": 12},
    ],
    "permutation_composition": [
        {},
        {"answers": "online"},
        {"num_entries": 2},
        {"num_entries": 9, "max_entries": 9},
        {"num_entries": 100},
    ],
    "position_retrieval": [
        {},
        {"query_order": "prefix"},
        {"num_tokens": 200, "max_tokens": 200, "num_symbols": 30},
        {"num_tokens": 200, "max_tokens": 200, "ends_with_bos": True},
        {"num_tokens": 12, "num_symbols": 100, "query_order": "prefix", "ends_with_bos": True},
        {"num_tokens": 2, "max_tokens": 2},
    ],
    "selective_copying": [{}, {"num_tokens": 1, "num_noise": 0, "num_symbols": 2}, {"num_tokens": 30, "num_noise": 7}],
    "state_based_recall": [
        {},
        {"num_pairs": 32, "num_instructions": 64, "reveal_percent": 0},
        {"num_pairs": 1, "num_instructions": 1, "num_variables": 2, "num_values": 2},
    ],
    "state_tracking": [
        {},
        {"num_instructions": 64, "reveal_percent": 80},
        {"num_instructions": 1, "num_variables": 2, "num_values": 2, "assign_percent": 100},
    ],
    "two_sum": [
        {},
        {"balanced": True},
        {"length": 2, "modulus": 2},
        {"length": 3, "modulus": 2, "balanced": True},
        {"length": 64, "modulus": 5},
        {"length": 24, "modulus": 529, "max_modulus": 1000},
        {"length": 40, "modulus": 1600, "max_modulus": 1600, "balanced": True},
    ],
    "word_problem": [
        {},
        {"group": "Z2", "length": 40, "min_length": 3},
        {"group": "A5", "length": 100, "tokens": "generators"},
        {"group": "S5", "tokens": "swaps", "min_length": 1},
        {"group": "A4xZ5", "length": 2},
    ],
}
