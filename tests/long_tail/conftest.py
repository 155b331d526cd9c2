"""The small long-tailed problem of the tests."""

import pytest
from small_problem import Problem, small_problem


@pytest.fixture(scope="session")
def problem() -> Problem:
    """Seven classes of 40 to 1 training images."""
    return small_problem()
