"""add, compose, check, materialize and checkout."""

import json
from pathlib import Path
from unittest.mock import ANY

import pytest

from registry.results import Added, Check, Composed, Extracted, Materialized, MaterializePlan, ModuleReport
from tests.cli import samples
from tests.cli.conftest import FakeRegistry, Run


def test_add_passes_every_option(fake: FakeRegistry, run: Run) -> None:
    fake.answers["add"] = samples.added()
    words = (
        "add ./folder toxic --base org/llama@abc --base-path llama --task t --tag a=b=c --license mit "
        "--parent x@1 --parent y --note hello --new"
    )
    done = run(*words.split())
    assert done.exit_code == 0
    assert "added toxic@3" in done.stdout
    assert fake.asked == {
        "source": "./folder",
        "name": "toxic",
        "base": "org/llama@abc",
        "base_path": "llama",
        "task": "t",
        "tags": {"a": "b=c"},
        "license": "mit",
        "parents": ("x@1", "y"),
        "note": "hello",
        "new": True,
        "provenance": True,
    }


def test_adding_again_says_so_and_warnings_go_to_stderr(fake: FakeRegistry, run: Run) -> None:
    fake.answers["add"] = samples.added(created=False, warnings=("no license",))
    done = run("add", "./folder", "toxic")
    assert "nothing was added" in done.stdout
    assert done.stderr == "warning: no license\n"
    as_json = run("add", "./folder", "toxic", "--format", "json")
    assert Added.model_validate_json(as_json.stdout).warnings == ("no license",)
    assert as_json.stderr == ""
    quiet = run("add", "./folder", "toxic", "--format", "quiet")
    assert (quiet.stdout, quiet.stderr) == ("toxic@3\n", "warning: no license\n")


def test_compose_passes_every_option(fake: FakeRegistry, run: Run) -> None:
    fake.answers["compose"] = samples.composed()
    words = "--energy 0.950 --dtype float32 --seed 7 --device cuda:1 --base-path ./llama --task t --tag a=b --note n"
    done = run("compose", "detox", "alpaca@prod - 0.4*toxic", *words.split())
    assert done.exit_code == 0
    assert fake.asked == {
        "name": "detox",
        "expression": "alpaca@prod - 0.4*toxic",
        "rank": None,
        "energy": "0.950",
        "dtype": "float32",
        "seed": 7,
        "device": "cuda:1",
        "base_path": "./llama",
        "task": "t",
        "tags": {"a": "b"},
        "note": "n",
        "progress": ANY,
    }


def test_compose_explains_the_result(fake: FakeRegistry, run: Run) -> None:
    fake.answers["compose"] = samples.composed(warnings=("the A factors differ",))
    done = run("compose", "detox", "alpaca@prod - 0.4*toxic")
    for fact in (
        "detox@1",
        "alpaca@7 - 0.4*toxic@3",
        samples.OTHER,
        "computed",
        "-0.4",
        "median",
        "0.91",
        "energy",
    ):
        assert fact in done.stdout
    assert "warning: the A factors differ" in done.stderr
    as_json = run("compose", "detox", "a", "--format", "json")
    assert Composed.model_validate_json(as_json.stdout) == fake.answers["compose"]


def test_compose_says_when_nothing_was_computed(fake: FakeRegistry, run: Run) -> None:
    fake.answers["compose"] = samples.composed(created=False, cached=True)
    done = run("compose", "detox", "a + b")
    assert "already composed" in done.stdout
    assert "cache" in done.stdout


@pytest.mark.parametrize(
    "expression", ["-toxic", "-hate", "-0.4*toxic + a", "-(a + b)", "- toxic", "-d", "-t", "toxic", "-format"]
)
@pytest.mark.parametrize("verb", ["compose", "check"])
def test_an_expression_may_begin_with_a_minus(
    fake: FakeRegistry, run: Run, verb: str, expression: str
) -> None:
    fake.answers |= {"compose": samples.composed(), "check": samples.check()}
    name = ["neg"] if verb == "compose" else []
    for words in (
        [verb, *name, expression, "--rank", "4", "--format", "quiet"],
        [verb, "--rank=4", "--format=quiet", *name, expression],
        [verb, "--rank", "4", *name, "--format", "quiet", "--", expression],
    ):
        done = run(*words)
        assert done.exit_code == 0, done.stderr
        assert (fake.asked["expression"], fake.asked["rank"]) == (expression, 4)


def test_minus_h_alone_is_help_and_option_values_may_begin_with_a_minus(fake: FakeRegistry, run: Run) -> None:
    fake.answers["compose"] = samples.composed()
    assert "Usage:" in run("compose", "-h").stdout
    assert run("compose", "neg", "-a", "--note", "-a note", "--tag", "-k=v").exit_code == 0
    assert (fake.asked["note"], fake.asked["tags"]) == ("-a note", {"-k": "v"})


@pytest.mark.parametrize(
    "words",
    [
        ["compose", "x", "a", "--rank", "4", "--energy", "0.5"],
        ["compose", "x", "a", "--rank", "0"],
        ["compose", "x", "a", "--energy", "0"],
        ["compose", "x", "a", "--energy", "1.01"],
        ["compose", "x", "a", "--energy", "nan"],
        ["compose", "x", "a", "--energy", "much"],
        ["compose", "x", "a", "--dtype", "int4"],
        ["compose", "x", "a", "--tag", "novalue"],
        ["compose", "x", "a", "--tag", "=v"],
        ["compose", "x", "a", "--tag", "k=v", "--tag", "k=w"],
        ["compose", "x", "a", "--frobnicate"],
        ["compose", "x", "a", "--note"],
        ["compose", "x"],
        ["compose", "x", "a", "b"],
        ["materialize", "x", "--as", "poem"],
        ["materialize", "x", "--max-shard-size", "five"],
        ["materialize", "x", "--max-shard-size", "0"],
    ],
)
def test_a_bad_option_is_a_usage_error_and_calls_nothing(
    fake: FakeRegistry, run: Run, words: list[str]
) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 2
    assert fake.calls == []


def test_check_lists_inputs_with_coefficients(fake: FakeRegistry, run: Run) -> None:
    fake.answers["check"] = samples.check(warnings=("careful",))
    done = run("check", "-0.4*toxic", "--rank", "4", "--dtype", "float16")
    options = {"rank": 4, "energy": None, "dtype": "float16", "base_path": None, "conflicts": None}
    assert fake.asked == {"expression": "-0.4*toxic", **options}
    for fact in ("-0.4*toxic@3", samples.OTHER, "toxic@3", "org/llama@abc123", "up to 8"):
        assert fact in done.stdout
    assert done.stderr == "warning: careful\n"
    assert run("check", "-toxic", "--format", "quiet").stdout == "toxic@3\n"
    as_json = run("check", "-toxic", "--format", "json").stdout
    assert Check.model_validate_json(as_json) == fake.answers["check"]


@pytest.mark.parametrize(
    ("text", "size"), [("5GB", 5 * 10**9), ("500mb", 5 * 10**8), ("1.5 GiB", 3 * 2**29), ("42", 42)]
)
def test_materialize_passes_every_option(fake: FakeRegistry, run: Run, text: str, size: int) -> None:
    fake.answers["materialize"] = samples.materialized(differs=(samples.OTHER,), warnings=("slow",))
    words = "materialize detox --as model --base-path llama --out out/detox --device cpu --dtype float16"
    done = run(*words.split(), "--max-shard-size", text)
    assert done.exit_code == 0
    assert fake.asked == {
        "ref": "detox",
        "into": "model",
        "base_path": "llama",
        "out": "out/detox",
        "device": "cpu",
        "dtype": "float16",
        "max_shard_size": size,
        "progress": ANY,
    }
    for fact in ("detox@1", "out/detox", samples.DIGEST, "model.safetensors", "1,234", "1.50"):
        assert fact in done.stdout
    assert done.stderr == f"warning: slow\nwarning: this recipe has also given {samples.OTHER}\n"
    as_json = run("materialize", "detox", "--format", "json")
    assert Materialized.model_validate_json(as_json.stdout) == fake.answers["materialize"]


def test_materialize_explains_what_it_would_do(fake: FakeRegistry, run: Run) -> None:
    fake.answers["explain"] = samples.plan(warnings=("untied",))
    line = "materialize detox --as model --base-path llama --device cuda:0,cuda:1 --explain"
    words = line.split()
    done = run(*words)
    options = {"base_path": "llama", "device": "cuda:0,cuda:1", "dtype": None, "max_shard_size": None}
    assert fake.asked == {"ref": "detox", "into": "model", **options}
    facts = (
        "nothing is done",
        "7 tensors, 3.0 kB",
        "2 tensors, 2.0 kB",
        "5.1 kB",
        "1.2 MFLOP",
        "hashing",
        "unchanged",
    )
    for fact in facts:
        assert fact in done.stdout
    assert done.stderr == "warning: untied\n"
    assert run(*words, "--format", "quiet").stdout == "detox@1\n"
    as_json = run(*words, "--format", "json").stdout
    assert MaterializePlan.model_validate_json(as_json) == fake.answers["explain"]
    fake.answers["explain"] = samples.plan(identify=4_000, bound="arithmetic", operations=0)
    other = run(*words).stdout
    assert "reads 4.0 kB to know it" in other
    assert "arithmetic" in other
    assert "nothing" in other


def test_a_plan_is_written_nowhere(run: Run) -> None:
    done = run("materialize", "detox", "--explain", "--out", "out")
    assert done.exit_code == 2
    assert "--explain writes nothing" in done.stderr


def test_checkout_says_where(fake: FakeRegistry, run: Run) -> None:
    fake.answers["checkout"] = samples.checkout()
    done = run("checkout", "toxic", "out")
    assert fake.asked == {"ref": "toxic", "directory": "out", "for_": None, "rank": None, "base_path": None}
    assert "wrote toxic@3 to out" in done.stdout
    assert "adapter_config.json" in done.stdout
    assert run("checkout", "toxic", "out", "--format", "quiet").stdout == "toxic@3\n"


def test_checkout_for_another_program_says_how_it_is_loaded(
    fake: FakeRegistry, run: Run, tmp_path: Path
) -> None:
    made = {"format": "vllm", "rank": 16, "energy": 0.9921, "notes": ("serve it with --max-lora-rank 16",)}
    fake.answers["checkout"] = samples.checkout(**made)
    done = run("checkout", "toxic", "out", "--for", "vllm", "--rank", "16", "--base-path", str(tmp_path))
    assert (fake.asked["for_"], fake.asked["rank"]) == ("vllm", 16)
    assert fake.asked["base_path"] == str(tmp_path)
    assert "wrote toxic@3 for vllm to out" in done.stdout
    assert "cut to rank 16: each module kept 99.2100% of its energy or more" in done.stdout
    assert "serve it with --max-lora-rank 16" in done.stdout
    assert run("checkout", "toxic", "out", "--for", "vllm", "--rank", "0").exit_code == 2
    assert json.loads(run("checkout", "toxic", "out", "--format", "json").stdout)["energy"] == 0.9921


def test_convert_passes_every_option(fake: FakeRegistry, run: Run) -> None:
    fake.answers["convert"] = samples.composed(name="style-lora")
    words = (
        "--name s --rank 4 --initial start --dtype bfloat16 --device cpu --base-path ./m --tag a=b --note n"
    )
    done = run("convert", "style", "--to", "lora", *words.split())
    assert done.exit_code == 0
    assert fake.asked == {
        "ref": "style",
        "to": "lora",
        "name": "s",
        "rank": 4,
        "energy": None,
        "initial": "start",
        "dtype": "bfloat16",
        "device": "cpu",
        "base_path": "./m",
        "tags": {"a": "b"},
        "note": "n",
        "progress": ANY,
    }
    assert "energy" in done.stdout  # what each module lost
    assert run("convert", "style", "--rank", "4", "--energy", "0.5").exit_code == 2


def test_extract_passes_every_option(fake: FakeRegistry, run: Run) -> None:
    report = (ModuleReport(module="q", values={"rank": 8.0, "energy": 0.9, "error": 0.3}),)
    plain = samples.added(warnings=("careful",))
    fake.answers["extract"] = Extracted(**dict(plain), report=report)
    words = "--energy 0.9 --dtype bfloat16 --base org/llama@1 --task t --tag a=b --license mit --note n"
    done = run("extract", "./base", "./tuned", "chat", *words.split())
    assert done.exit_code == 0
    assert fake.asked == {
        "base": "./base",
        "finetuned": "./tuned",
        "name": "chat",
        "rank": None,
        "energy": "0.9",
        "dtype": "bfloat16",
        "repo": "org/llama@1",
        "task": "t",
        "tags": {"a": "b"},
        "license": "mit",
        "note": "n",
        "progress": ANY,
    }
    assert "toxic@3" in done.stdout
    assert "error" in done.stdout
    assert done.stderr == "warning: careful\n"
