"""A store in a bucket, on a real S3 server: published, copied, and one line when it can't be reached."""

import socket
import time

import pytest

from features.errors import BadInput
from models.bundle import Bundle
from models.prior import PRIOR
from models.store import Pointer, Store

pytestmark = pytest.mark.filterwarnings("ignore")  # botocore's and moto's own


@pytest.fixture
def store(s3, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return Store("s3://bundles/team/store")


def test_a_bucket_is_as_good_as_a_folder(store):
    assert store.pointer() is None
    digest = store.add(PRIOR)
    assert digest == Bundle.load(PRIOR).digest
    store.point(digest, 1)
    assert store.pointer() == Pointer(digest=digest, since_ms=1)
    assert store.load(digest).digest == digest
    assert store.last_good().digest == digest


def test_a_bucket_that_is_not_there_is_one_line_and_is_not_made(s3):
    import boto3

    store = Store("s3://bundels/store")
    assert store.pointer() is None
    with pytest.raises(
        BadInput, match="s3://bundels/store: there is no such bucket or container; make it first"
    ):
        store.add(PRIOR)
    assert [bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]] == ["bundles"]


def test_a_store_that_is_down_is_one_line(s3, store):
    s3.stop()
    with pytest.raises(BadInput, match=r"s3://bundles/team/store/current: can't be read \(Could not connect"):
        store.pointer()
    with pytest.raises(BadInput, match="can't be written") as caught:
        store.add(PRIOR)
    assert "\n" not in str(caught.value)
    s3.start()
    assert store.pointer() is None


def test_a_store_that_never_answers_is_waited_for_so_long_and_no_longer(s3, store, monkeypatch):
    monkeypatch.setattr("models.places.PATIENCE_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{silent.getsockname()[1]}")
        type(store._files.files).clear_instance_cache()
        started = time.monotonic()
        with pytest.raises(BadInput, match="no answer within 1 s"):
            Store("s3://bundles/store").pointer()
        assert time.monotonic() - started < 30  # not botocore's five minutes
