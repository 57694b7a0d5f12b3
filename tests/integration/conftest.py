"""AWS by moto, with credentials that open nothing."""

from collections.abc import Iterator

import pytest

from tests.integration import house as houses


@pytest.fixture(scope="module")
def house() -> Iterator[houses.House]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", houses.REGION)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        with houses.house() as one:
            yield one
