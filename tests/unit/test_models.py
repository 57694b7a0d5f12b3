"""What every model has in common."""

import inspect
from collections.abc import Callable, Iterator
from json import dumps
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from countersign import events, models
from countersign.errors import PayloadError
from countersign.policy import directory, profiles
from countersign.tsb import models as tsb_models
from countersign.tsb.models import Answer

SECRET = "hunter2-correct-horse"


def all_models() -> Iterator[type[BaseModel]]:
    for module in (models, events, directory, profiles, tsb_models):
        for _, one in inspect.getmembers(module, inspect.isclass):
            if issubclass(one, BaseModel) and one not in (BaseModel, Answer):
                yield one


MODELS = {one.__name__: one for one in all_models()}


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("raw", [SECRET, [SECRET], {"password": SECRET, "label": [SECRET]}])
def test_no_error_of_a_model_quotes_its_input(name: str, raw: object) -> None:
    """Lambda logs an exception that nobody catches, and Step Functions keeps it for 90 days."""
    model = MODELS[name]
    validations: list[tuple[Callable[[Any], Any], object]] = [
        (model.model_validate, raw),
        (model.model_validate_json, dumps(raw)),
    ]
    found = []
    for validate, given in validations:
        try:
            validate(given)
        except ValidationError as error:
            found.append(f"{error}{error!r}")

    assert found
    assert SECRET not in str(found)


PAYLOADS = {
    name: one
    for name, one in MODELS.items()
    if issubclass(one, models.Payload) and name != "Payload"
}


@pytest.mark.parametrize("name", sorted(PAYLOADS))
def test_a_payload_that_does_not_fit_decides_nothing(name: str) -> None:
    with pytest.raises(PayloadError) as caught:
        PAYLOADS[name].read({"ofAnotherRelease": SECRET})

    assert SECRET not in str(caught.value)
