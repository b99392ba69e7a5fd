"""Two nodes for each test that asks for them."""

import pytest

from tests.support.nodes import missing, two_nodes


@pytest.fixture(scope="session")
def _can_be():
    if (reason := missing()) is not None:
        pytest.skip(f"two nodes: {reason}")


@pytest.fixture
def nodes(_can_be, tmp_path):
    """Gone when the test ends, however it ends."""
    with two_nodes(tmp_path) as both:
        yield both


@pytest.fixture
def nodes_named_as_by_debian(_can_be, tmp_path):
    """The same, but each takes its own name for 127.0.1.1."""
    with two_nodes(tmp_path, own_name="127.0.1.1") as both:
        yield both
