"""What the package never does: run code that it reads, or store or show a secret."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import rayfs
from rayfs.errors import InputError
from rayfs.experiments.report.flags import ReportConfig
from rayfs.flags.command_line import run_job
from rayfs.redaction import without_secrets, without_secrets_inside
from rayfs.runs.run_directory import RunDirectory

PACKAGE = Path(rayfs.__file__).parent
SOURCES = sorted([*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "jobs").glob("*.py")])

# Loaders that run code

NEVER = {
    *("eval", "exec", "compile", "__import__"),
    *(f"{module}.{name}" for module in ("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "marshal", "joblib")
      for name in ("load", "loads", "Unpickler")),
    *("shelve.open", "os.system", "os.popen", "pd.read_pickle", "pandas.read_pickle", "torch.jit.load"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "importlib.import_module"),
}  # fmt: skip
WITH = {"torch.load": ("weights_only", True)}
WITHOUT = {
    "np.load": "allow_pickle",
    "numpy.load": "allow_pickle",
    "subprocess.run": "shell",
    "subprocess.Popen": "shell",
}


def unsafe_calls(source: str) -> Iterator[str]:
    """Yield what `source` calls, or imports by name, that may run code out of what it reads."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            yield from (name for a in node.names if (name := f"{node.module}.{a.name}") in NEVER | WITH.keys())
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        flags = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
        safe_yaml = name.startswith("yaml.load") and "SafeLoader" in ast.unparse(node)
        if name in NEVER and not safe_yaml:
            yield name
        elif name in WITH and flags.get(WITH[name][0]) is not WITH[name][1]:
            yield f"{name} without {WITH[name][0]}={WITH[name][1]}"
        elif name in WITHOUT and flags.get(WITHOUT[name], False) is not False:
            yield f"{name} with {WITHOUT[name]}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_the_package_has_no_loader_that_runs_code(path: Path) -> None:
    found = list(unsafe_calls(path.read_text()))
    if path == PACKAGE / "deferred.py":  # imports by names that stand in definitions
        assert set(found) == {"importlib.import_module"}
    else:
        assert found == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("pickle.load(file)", "pickle.load"),
        ("pickle.Unpickler(file).load()", "pickle.Unpickler"),
        ("from pickle import loads", "pickle.loads"),
        ("from torch import load", "torch.load"),
        ("torch.load(path)", "torch.load without weights_only=True"),
        ("torch.load(path, weights_only=False)", "torch.load without weights_only=True"),
        ("torch.load(path, weights_only=flag)", "torch.load without weights_only=True"),
        ("yaml.load(text)", "yaml.load"),
        ("yaml.load(text, Loader=yaml.FullLoader)", "yaml.load"),
        ("np.load(path, allow_pickle=True)", "np.load with allow_pickle"),
        ("eval('1')", "eval"),
        ("exec(text)", "exec"),
        ("subprocess.run(text, shell=True)", "subprocess.run with shell"),
    ],
)
def test_the_search_finds_such_loaders(source: str, found: str) -> None:
    assert list(unsafe_calls(source)) == [found]


@pytest.mark.parametrize(
    "source",
    [
        "module.eval()",
        "torch.load(path, weights_only=True)",
        "np.load(path)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "yaml.safe_load(text)",
        "re.compile(text)",
        "subprocess.run([a, b])",
    ],
)
def test_the_search_finds_nothing_else(source: str) -> None:
    assert list(unsafe_calls(source)) == []


# Secrets

KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://AKIA:secret@bucket/run", "s3://***@bucket/run"),
        (f"s3://AKIA:{KEY}@bucket/run", "s3://***@bucket/run"),
        ("s3://AKIA:se@cret@bucket/run", "s3://***@bucket/run"),
        ("s3://AKIA@bucket/run", "s3://***@bucket/run"),
        ("https://user:1234@host:8265/x", "https://***@host:8265/x"),
        ("https://:token@host", "https://***@host"),
        ("s3://b/run?access_key=AKIA&secret_key=xyz&region=eu", "s3://b/run?access_key=***&secret_key=***&region=eu"),
        ("abfs://c@a.dfs/x?account_key=A+b/c==", "abfs://***@a.dfs/x?account_key=***"),
        ("https://host/x?X-Amz-Signature=0a1b&v=1", "https://host/x?X-Amz-Signature=***&v=1"),
        ("AWS_SECRET_ACCESS_KEY=abc python job.py", "AWS_SECRET_ACCESS_KEY=*** python job.py"),
        ("job.py --token=abc --n-way 5", "job.py --token=*** --n-way 5"),
        ("two: s3://a:b@c and s3://d:e@f.", "two: s3://***@c and s3://***@f."),
    ],
)
def test_credentials_in_a_text_become_stars(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert without_secrets(shown) == shown, "a second time changes nothing"


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/run",
        "s3://bucket/path@2",
        "http://head:8265/path@2",
        "ray://10.0.0.1:10001",
        "mail me@host.org: 3 of 5",
        "label-halluc:base-gradient=head",
        "python job.py --seed 3 --out runs/a",
        "key=value token secret",
        "",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    "name", ["AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN", "DB_PASSWORD", "AZURE_ACCOUNT_KEY", "my_api_key", "HF_TOKEN"]
)
def test_the_values_of_secret_environment_variables_become_stars(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, KEY)
    assert without_secrets(f"KeyError: '{KEY}' in {KEY}") == "KeyError: '***' in ***"


@pytest.mark.parametrize(
    ("name", "value"),
    [("RAY_AUTH_MODE", "token-of-ray"), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/run/token"), ("A_TOKEN", "true")],
)
def test_other_values_are_no_secrets(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert without_secrets(f"it is {value}") == f"it is {value}"


def test_secrets_are_found_in_nested_values() -> None:
    value = {"command": ["job.py", ("s3://a:b@c",)], "n": 3, "x": None, "y": {"z": "https://t@h"}}
    expected = {"command": ["job.py", ["s3://***@c"]], "n": 3, "x": None, "y": {"z": "https://***@h"}}
    assert without_secrets_inside(value) == expected


def test_an_error_message_of_a_job_shows_no_secret(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)

    def main(config: object) -> int:
        raise InputError(f"cannot open s3://AKIA:{KEY}@bucket?session_token=abc, signed with {KEY}")

    assert run_job(main, ReportConfig, None, ["runs/a"]) == 2
    assert capsys.readouterr().err == "error: cannot open s3://***@bucket?session_token=***, signed with ***\n"


def test_a_location_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    location = f"s3://AKIA:{KEY.replace('/', '%2F')}@bucket/run?region=eu-west-1"
    assert RunDirectory(location).location == "s3://***@bucket/run?region=eu-west-1"
