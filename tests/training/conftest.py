"""Fixtures of this room: an MLflow store whose tables are made once for all tests of a process."""

import pytest


@pytest.fixture(scope="session")
def mlflow_tables(tmp_path_factory):
    """File of an MLflow store that holds tables and nothing else."""
    from registry_place import make_tables

    return make_tables(tmp_path_factory.mktemp("tables"))
