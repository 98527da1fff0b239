"""One test suite for each port, run on every adapter."""

import pytest

pytest.register_assert_rewrite("tests.contract.database_harness")
