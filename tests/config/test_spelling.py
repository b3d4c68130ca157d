"""What is typed means what it says, whatever Hydra and YAML make of such words."""

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from hybrids.config.build import build_run
from hybrids.config.compose import spell_flags, spell_overrides
from hybrids.config.quoting import quote
from hybrids.config.schema import store_schemas
from hybrids.errors import UserError

WORDS = ("NAN", "INF", "TRUE", "FALSE", "NULL", "ON", "OFF", "YES", "NO", "Y", "N", "E", "NONE")
"""Which Hydra or YAML 1.1 reads as a number, a truth value or nothing, in some spelling."""


@given(st.text(alphabet="ab'\\\"${}=,~ []():#%", max_size=6))
def test_a_quoted_text_is_read_as_itself(text):
    assert str(OverridesParser.create().parse_override(f"key={quote(text)}").value()) == text


@pytest.mark.parametrize("word", WORDS)
def test_a_pattern_is_text_in_a_run_and_in_its_config(make_run, word):
    letters = sorted(set(word) - set("ASLM"))
    given = spell_overrides([f"pattern={word}", *(f"+mixer@mixers.{letter}=retention" for letter in letters)])
    run = make_run(*given)
    assert str(run.pattern) == word
    again = build_run(yaml.safe_load(yaml.safe_dump(dict(run.config))))
    assert (str(again.pattern), again.id) == (word, run.id)


@pytest.mark.parametrize("word", WORDS)
def test_a_pattern_is_text_in_a_sweep_and_as_what_is_matched(word):
    swept, matched = spell_overrides([f"pattern=LLLA,{word}", f"match_to={word}"])
    parser = OverridesParser.create()
    values = [
        parser.parse_override(f"x={text}").value() for text in parser.parse_override(swept).sweep_string_iterator()
    ]
    assert values == ["LLLA", word]
    assert parser.parse_override(matched).value() == word


def test_every_place_of_letters_that_spell_a_number():
    store_schemas()
    placed = OmegaConf.create({"pattern": "${placements:3,1,A,N}"}).pattern
    parser = OverridesParser.create()
    cells = parser.parse_override(f"pattern={placed}").sweep_string_iterator()
    assert [parser.parse_override(f"pattern={cell}").value() for cell in cells] == ["NNA", "NAN", "ANN"]


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("~optim", "~optim is not allowed: only a letter can be taken away, as in ~mixers.S"),
        ("~optim.lr", "~optim.lr is not allowed"),
        ("~task", "~task is not allowed"),
        ("hydra.job.chdir=true", "hydra.job.chdir=true is not allowed: a run is kept in runs_dir"),
        ("++hydra.job.chdir=True", "is not allowed: a run is kept in runs_dir"),
    ],
)
def test_what_would_be_silently_something_else_is_refused(argument, sentence):
    with pytest.raises(UserError, match=sentence):
        spell_overrides([argument])


@pytest.mark.parametrize("argument", ["~mixers.S", "~mixer@mixers.S", "hydra.job.chdir=false"])
def test_what_is_left_as_it_is(argument):
    assert spell_overrides([argument]) == [argument]


@pytest.mark.parametrize(
    ("argument", "spelt"),
    [
        ("--pattern=LLLA", "pattern=LLLA"),
        ("--optim.lr=1e-3", "optim.lr=1e-3"),
        ("--mixer@mixers.L=gla", "mixer@mixers.L=gla"),
        ("--cfg=job", "--cfg=job"),
        ("--multirun", "--multirun"),
    ],
)
def test_a_setting_may_be_written_as_sweep_agents_do(argument, spelt):
    assert spell_flags([argument]) == [spelt]


def test_an_option_that_is_a_setting_says_how_it_is_written():
    with pytest.raises(UserError, match=r"unknown option '--pattern'; write pattern=<value>"):
        spell_flags(["--pattern", "LLLA"])


@pytest.mark.parametrize("setting", ["run", "runs_dir"])
@pytest.mark.parametrize("place", ["runs/mqar-L~A-0123abcd", "runs/a b", "runs/a=b(1)", "C:/runs", "runs/it's"])
def test_a_place_is_text(setting, place):
    (argument,) = spell_overrides([f"{setting}={place}"])
    assert OverridesParser.create().parse_override(argument).value() == place


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ("a.py", ["a.py"]),
        ("a.py,b/c-1.py", ["a.py", "b/c-1.py"]),
        ("[a.py,b.py]", ["a.py", "b.py"]),
        ("my a=1(2).py,it's.py", ["my a=1(2).py", "it's.py"]),
    ],
)
def test_files_of_plugins_are_a_list_and_spelt_twice_the_same_one(given, paths):
    (argument,) = spell_overrides([f"plugins={given}"])
    read = OverridesParser.create().parse_override(argument)
    assert [str(path) for path in read.value()] == paths and not read.is_sweep_override()
    assert spell_overrides([argument]) == [argument]


def test_an_empty_folder_of_runs_is_refused(make_run):
    with pytest.raises(UserError, match="runs_dir= is empty"):
        make_run("runs_dir=")
