"""The mutants that `make campaign` tries: each still says what it changes, and who notices."""

import re

import pytest

from tests.campaign.mutants import MUTANTS, ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_a_mutant_changes_text_that_is_there_once_and_its_tests_exist(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text()

    assert mutant.applied(text) != text
    assert mutant.tests
    for test in mutant.tests[: mutant.tests.index("-k") if "-k" in mutant.tests else None]:
        file, _, name = test.partition("[")[0].partition("::")
        assert (ROOT / file).exists()
        assert not name or re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_every_mutant_has_a_name_of_its_own() -> None:
    assert len({one.name for one in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("old", ["import os\n", "import"], ids=["none", "several"])
def test_a_text_that_is_not_there_once_is_an_error(old: str) -> None:
    moved = Mutant("moved", "a.py", ((old, ""),), "", ())

    with pytest.raises(ValueError, match="times in a.py"):
        moved.applied("import re\nimport sys\n")
