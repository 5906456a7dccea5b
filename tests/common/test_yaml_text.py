"""YAML as users write it: its numbers, and one sentence with the line for each mistake, in bounded time."""

import math
from pathlib import Path

import pytest

from common.errors import UserError
from common.yaml_text import load_yaml, read_yaml_file, yaml_leaves

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("010", 10),
        ("08", 8),
        ("-010", -10),
        ("1_000", 1000),
        ("0x10", 16),
        ("0o17", 15),
        ("1e-3", 0.001),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.inf", -math.inf),
        ("1:30", "1:30"),
        ("00:12:00:00", "00:12:00:00"),
        ("2024-01-01", "2024-01-01"),
        ("'010'", "010"),
        ("yes", True),
        ("off", False),
        ("~", None),
        ("null", None),
    ],
)
def test_plain_values_are_what_a_person_means(written: str, value: object) -> None:
    read = load_yaml(f"a: {written}", "mine.yaml")["a"]
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb: 2\na: 3\n", "mine.yaml has the key 'a' twice, in lines 1 and 3; keep one of them."),
        ("b:\n  c: 1\n  d: 2\n  c: 3\n", "mine.yaml has the key 'c' twice, in lines 2 and 4; keep one of them."),
        ("- {a: 1, a: 2}\n", "mine.yaml has the key 'a' twice, both in line 1; keep one of them."),
        ("a: 1\n'a': 2\n", "mine.yaml has the key 'a' twice, in lines 1 and 2; keep one of them."),
        ("a:\n\tb: 1\n", "mine.yaml is not valid YAML (line 2, 'b: 1': a tab in the indentation, which must be of"),
        (
            "a: 1\nb: [1, 2\n",
            "mine.yaml is not valid YAML (line 2, 'b: [1, 2': did not find expected ',' or ']'; is",
        ),
        ("a: 'x\nb: 1\n", 'mine.yaml is not valid YAML (line 1, "a: \'x": found unexpected end of stream; is the'),
        ("a: 1\nb: x: y\n", "mine.yaml is not valid YAML (line 2, 'b: x: y': a ': ' in a value, which needs quotes"),
        ("a: @x\n", "mine.yaml is not valid YAML (line 1, 'a: @x': a value that begins with a special character"),
        ("a: !x y\n", "mine.yaml is not valid YAML (line 1, 'a: !x y': a value that begins with !, which needs quotes"),
        ("a: *x\n", "mine.yaml is not valid YAML (line 1, 'a: *x': a value that begins with *, which needs quotes"),
        ("a: {{x}}\n", "mine.yaml is not valid YAML (line 1, 'a: {{x}}': a key that is a list or a mapping"),
        (
            "a: 1\n---\na: 2\n",
            "mine.yaml is not valid YAML (line 2, '---': a second document begins with ---; keep",
        ),
        ("a: 1\nb: \x07\n", "mine.yaml is not valid YAML (line 2, 'b: \\x07': control characters are not allowed"),
        ("a: 1\nb: " + "9" * 5000, "mine.yaml has a number of 5,000 digits in line 2; correct it."),
        ("a: &a [*a]\n", "mine.yaml has an alias within what it means, in line 1; write it out."),
        (BOMB, "mine.yaml has more than 100,000 values from line 6 on, once its aliases are written out; shorten it."),
        ("[" * 100_000, "mine.yaml is nested more than 100 levels deep in line 1; correct it."),
        ("- " * 100_000, "mine.yaml is nested more than 100 levels deep in line 1; correct it."),
        ("[" * 200 + "]" * 200, "mine.yaml is nested more than 100 levels deep in line 1; correct it."),
        ("a: 1\n" + "#" * 1_000_000, "mine.yaml has more than 1 MB; shorten it."),
    ],
)
def test_a_mistake_is_one_sentence_with_its_line(text: str, sentence: str) -> None:
    """Nested lists of that depth crash the process in libyaml, and the aliases are gigabytes once they are printed."""
    with pytest.raises(UserError) as caught:
        load_yaml(text, "mine.yaml")
    assert str(caught.value).startswith(sentence)
    assert len(str(caught.value)) < 250 and "\n" not in str(caught.value)


def test_merged_mappings_may_repeat_keys() -> None:
    text = "x: &x {a: 1, b: 1}\ny: {<<: *x, a: 2}\nz: {<<: *x, <<: *x}\n"
    assert load_yaml(text, "it") == {"x": {"a": 1, "b": 1}, "y": {"a": 2, "b": 1}, "z": {"a": 1, "b": 1}}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a: 1\n".encode("utf-16"), "is UTF-16 text, as Windows writes it; save it as UTF-8."),
        (b"a: 1\nb: caf\xe9\n", "is not UTF-8 text (line 2); give a YAML file, saved as UTF-8."),
        (b"a: 1\n" + b"#" * 1_000_000, "has more than 1 MB; give a YAML file, such as the config.yaml of a run."),
    ],
)
def test_files_that_are_not_what_they_should_be(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_yaml_file(file)
    assert str(caught.value) == f"{file} {sentence}"


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert load_yaml(read_yaml_file(file), "it") == {"a": 1}


def test_where_each_value_is_written() -> None:
    text = "a:\n  b: 1e-3\n  c: [1, 2]\nd:\n- e: no\n"
    assert list(yaml_leaves(text)) == [("a.b", 2, "1e-3"), ("a.c", 3, "[1, 2]"), ("d", 4, "- e: no"), ("d.e", 5, "no")]
