"""What every model has in common."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from json import dumps
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

import countersign
from countersign import models
from countersign.errors import PayloadError
from countersign.tsb.models import Answer

SECRET = "hunter2-correct-horse"


def below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for one in model.__subclasses__():
        yield one
        yield from below(one)


for module in pkgutil.walk_packages(countersign.__path__, "countersign."):
    importlib.import_module(module.name)
MODELS = {
    f"{one.__module__}.{one.__name__}": one
    for one in below(BaseModel)
    if one.__module__.startswith("countersign.")
    and one not in (models.Model, models.Payload, Answer)
}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_no_error_of_a_model_quotes_its_input(name: str) -> None:
    """Lambda logs an exception that nobody catches, and Step Functions keeps it for 90 days."""
    model = MODELS[name]
    given: list[Any] = [SECRET, [SECRET], {"password": SECRET, "label": [SECRET]}]
    validations: list[tuple[Callable[[Any], Any], object]] = [
        *((model.model_validate, one) for one in given),
        *((model.model_validate_json, dumps(one)) for one in given),
    ]
    found = []
    for validate, raw in validations:
        try:
            validate(raw)
        except ValidationError as error:
            found.append(f"{error}{error!r}")

    assert found
    assert SECRET not in str(found)


PAYLOADS = {name: one for name, one in MODELS.items() if issubclass(one, models.Payload)}


@pytest.mark.parametrize("name", sorted(PAYLOADS))
def test_a_payload_that_does_not_fit_decides_nothing(name: str) -> None:
    with pytest.raises(PayloadError) as caught:
        PAYLOADS[name].read({"ofAnotherRelease": SECRET})

    assert SECRET not in str(caught.value)
