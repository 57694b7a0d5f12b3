"""The house keeps its shape: who may import whom, and one spelling for one noun."""

import ast
import importlib
import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from dataclasses import fields, is_dataclass
from functools import cached_property
from pathlib import Path

import pytest
import yaml

import countersign

ROOT = Path(__file__).parents[2]
CORE = ROOT / "layers/core/countersign"
MODULES = sorted(CORE.rglob("*.py"))
FUNCTIONS = sorted((ROOT / "functions").glob("*.py"))
# The API is one function for seven routes: its file declares what each takes and answers, and the
# OpenAPI file is generated from that. What it decides is in countersign/api.
ROUTER = ROOT / "functions/api.py"

# What each room may know of the others: only of those before it.
LOWER_FIRST = [
    "errors", "settings", "clocks", "polling", "texts", "algorithms", "record", "models",
    "resumption", "der", "spki", "stores", "policy",
    "request", "events", "mails", "letters", "tsb", "verification", "keys", "evidence",
    "waits", "reminders", "watch", "states",
    "api", "aws",
]  # fmt: skip
# A measured reason stands beside each.
LAZY = {"layers/core/countersign/keys/disposal.py": 1, "functions/api.py": 1}


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def importers(package: str) -> set[str]:
    return {
        str(file.relative_to(CORE))
        for file in MODULES
        if any(name == package or name.startswith(f"{package}.") for name in imports(file))
    }


def test_only_the_aws_folder_imports_boto3() -> None:
    users = importers("boto3") | importers("botocore")

    assert users
    assert all(user.startswith("aws/") for user in users)


@pytest.mark.parametrize(
    ("package", "owners"),
    [
        ("requests", {"tsb/client.py", "tsb/transport.py"}),
        ("urllib3", {"tsb/failures.py", "tsb/transport.py"}),
        # CSRs and approvers' keys; and the HSM's word on a key, which is another format.
        # And the signature of the evidence, which an auditor verifies without AWS.
        (
            "cryptography",
            {
                "policy/approver_keys.py",
                "policy/certificates.py",
                "verification/attestation.py",
                "verification/pkix.py",
                "evidence/verifier.py",
            },
        ),
        ("xml", {"verification/attestation_xml.py"}),
    ],
)
def test_a_package_has_its_owners(package: str, owners: set[str]) -> None:
    assert importers(package) == owners


def test_only_settings_reads_the_environment() -> None:
    readers = {
        str(file.relative_to(CORE))
        for file in MODULES
        if re.search(r"os\.environ|os\.getenv|getenv\(", file.read_text())
    }

    assert readers == {"settings.py"}
    assert not any("environ" in file.read_text() for file in FUNCTIONS)


def modules(room: str) -> list[Path]:
    return sorted((CORE / room).glob("*.py")) or [CORE / f"{room}.py"]


def test_every_module_has_its_room() -> None:
    rooms = {file.relative_to(CORE).parts[0].removesuffix(".py") for file in MODULES}

    assert rooms - {"__init__"} == set(LOWER_FIRST)


@pytest.mark.parametrize("room", LOWER_FIRST)
def test_imports_run_one_way(room: str) -> None:
    above = set(LOWER_FIRST[LOWER_FIRST.index(room) + 1 :])
    names = set().union(*(imports(file) for file in modules(room)))

    assert not {name for name in names if name.split(".")[1:2] and name.split(".")[1] in above}


def test_modules_of_a_room_import_in_no_circle() -> None:
    for room in LOWER_FIRST:
        inside = {f"countersign.{room}.{file.stem}": imports(file) for file in modules(room)}
        while inside:
            free = {name for name, used in inside.items() if not used & (inside.keys() - {name})}
            assert free, f"a circle among {sorted(inside)}"
            inside = {name: used for name, used in inside.items() if name not in free}


def test_what_a_function_needs_is_imported_at_the_top() -> None:
    # ruff allows no other (PLC0415).
    texts = {str(file.relative_to(ROOT)): file.read_text() for file in [*MODULES, *FUNCTIONS]}
    waived = {name: text.count("PLC0415") for name, text in texts.items() if "PLC0415" in text}

    assert waived == LAZY
    assert not [file for file in MODULES if "TYPE_CHECKING" in file.read_text()]


def test_no_module_of_the_core_imports_what_is_never_deployed() -> None:
    for file in [*MODULES, *FUNCTIONS]:
        assert not any(
            name.split(".")[0] in {"local", "countersign_cli", "tests", "benchmarks"}
            for name in imports(file)
        )


@pytest.mark.parametrize(
    "file", [file for file in FUNCTIONS if file != ROUTER], ids=lambda file: file.stem
)
def test_a_function_is_at_most_forty_lines_without_branches(file: Path) -> None:
    text = file.read_text()
    branches = (ast.If, ast.Try, ast.For, ast.While, ast.IfExp)

    assert len(text.splitlines()) <= 40
    assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, branches)]


def test_no_name_exists_both_as_function_and_in_a_layer() -> None:
    # On AWS /var/task shadows /opt/python; the emulator has it the other way round.
    in_layer = {path.stem for path in (ROOT / "layers/core").iterdir()}

    assert in_layer == {"countersign"}
    assert not in_layer & {file.stem for file in FUNCTIONS}


def test_one_spelling_from_state_to_resource() -> None:
    states = json.loads((ROOT / "statemachine/enrollment.asl.json").read_text())["States"]
    tasks = {
        name
        for name, state in states.items()
        if state.get("Resource", "").endswith(":lambda:invoke")
    }
    template = (ROOT / "template.yaml").read_text()

    for name in tasks:
        snake = re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()
        assert (ROOT / f"functions/{snake}.py").exists()
        assert f"\n  {name}Function:" in template
        assert f"Handler: {snake}.handler" in template
        assert f"{name}FunctionArn: !GetAtt {name}Function.Arn" in template
        assert f"\ndef {snake}(" in (CORE / f"states/{snake}.py").read_text()
        assert states[name]["Arguments"]["FunctionName"] == f"${{{name}FunctionArn}}"
    assert {file.stem for file in FUNCTIONS} >= {
        re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower() for name in tasks
    }


def test_one_python_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    template = (ROOT / "template.yaml").read_text()
    version = (ROOT / ".python-version").read_text().strip()

    assert project["project"]["requires-python"] == f"=={version}.*"
    assert project["tool"]["mypy"]["python_version"] == version
    assert set(re.findall(r"python3\.\d+", template)) == {f"python{version}"}


def test_license_is_stated_where_people_look() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    assert project["project"]["license"] == "Apache-2.0"
    assert "SPDX-License-Identifier: Apache-2.0" in (ROOT / "README.md").read_text()
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_no_boto3_in_the_dependencies_layer() -> None:
    pinned = (ROOT / "layers/dependencies/requirements.txt").read_text()

    names = {line.split("==")[0] for line in pinned.splitlines() if re.match(r"^[a-z]", line)}
    assert {"requests", "pydantic", "cryptography", "aws-lambda-powertools"} <= names
    assert not names & {"boto3", "botocore", "s3transfer"}
    assert "--hash=sha256:" in pinned


def test_the_command_line_is_installed_and_never_deployed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extra = {
        re.split(r"[<>=]", one)[0] for one in project["project"]["optional-dependencies"]["cli"]
    }
    layer = (ROOT / "layers/dependencies/requirements.txt").read_text()
    uris = re.findall(r"(?:CodeUri|ContentUri): (\S+)", (ROOT / "template.yaml").read_text())

    assert project["project"]["scripts"] == {"countersign": "countersign_cli.main:run"}
    assert "countersign_cli" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert extra
    assert not [name for name in extra if re.search(rf"^{name}==", layer, re.MULTILINE)]
    assert uris
    assert all(uri.split("/")[0] in {"functions", "layers", "profiles"} for uri in uris)


def test_who_only_verifies_needs_no_powertools_no_aws_sdk_and_nothing_of_approvers() -> None:
    missing = ["aws_lambda_powertools", "boto3", "botocore", "pkcs11", "starlette", "uvicorn"]
    imports = "import countersign_cli.main, countersign_cli.verify"
    code = f"import sys; sys.modules.update(dict.fromkeys({missing})); {imports}"

    subprocess.run([sys.executable, "-c", code], check=True)


def test_who_asks_for_help_waits_for_no_command() -> None:
    missing = ["pydantic", "requests", "cryptography", "botocore"]
    code = f"""
import sys
sys.modules.update(dict.fromkeys({missing}))
sys.argv = ["countersign", "--help"]
import countersign_cli.main
countersign_cli.main.run()
"""

    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert "submit" in told.stdout


# Their common path is the only one, or the directory's names are all that it lacks.
@pytest.mark.parametrize("function", ["poll_request", "cancel_request", "discard_key", "notify"])
def test_who_reads_no_certificate_works_without_the_package_that_does(function: str) -> None:
    code = f"""
import sys
sys.modules["cryptography"] = None
import functions.{function}
from countersign.policy.names import names_of
from countersign.policy.rules import decided
people = b'{{"people": [{{"name": "Ada", "keys": [{{"publicKey": "AAAA"}}]}}]}}'
decided((), approved=["AAAA"], declined=[], outstanding=[], names=lambda: names_of(people))
"""

    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_no_validator_is_built_before_an_event_needs_it() -> None:
    functions = [f"functions.{file.stem}" for file in FUNCTIONS]
    code = f"""
import importlib, sys
from pydantic import BaseModel, TypeAdapter
build, ours = TypeAdapter.__init__, ("countersign", "functions")
def building(*args, **more):
    if (name := sys._getframe(1).f_globals["__name__"]).startswith(ours):
        print(name)
    build(*args, **more)
TypeAdapter.__init__ = building
for name in {functions}:
    importlib.import_module(name)
def below(model):
    for one in model.__subclasses__():
        yield one
        yield from below(one)
found = [one for one in below(BaseModel) if one.__module__.startswith(ours)]
assert found
print(*(one.__name__ for one in found if one.__pydantic_complete__))
"""

    told = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True
    )

    assert told.stdout.split() == []


def test_what_is_a_value_and_nothing_else_is_a_named_tuple() -> None:
    # A frozen dataclass compiles six methods at each cold start (0.45 ms, a NamedTuple takes 0.07).
    # It stays where a field is hidden or not compared, or a property is kept.
    needless = [
        f"{one.__module__}.{one.__name__}"
        for name in pkgutil.walk_packages(countersign.__path__, "countersign.")
        for one in vars(importlib.import_module(name.name)).values()
        if is_dataclass(one) and isinstance(one, type) and one.__module__ == name.name
        if one.__dataclass_params__.frozen  # type: ignore[attr-defined]
        if all(each.repr and each.compare for each in fields(one))
        if not any(isinstance(each, cached_property) for each in vars(one).values())
    ]

    assert needless == []


def test_pre_commit_hooks_are_local() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())

    assert {repo["repo"] for repo in hooks["repos"]} == {"local"}
