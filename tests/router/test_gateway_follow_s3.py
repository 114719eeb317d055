"""A gateway without any training library follows a bucket: promoted, cut off from it, and rolled back."""

import httpx2
import pytest
from router_servers import start_gateway, start_upstream, wait_for

from models.prior import PRIOR
from models.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")  # botocore's and moto's own
BODY = {"model": "auto", "max_tokens": 50, "messages": [{"role": "user", "content": "Fix the bug"}]}
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("mlflow", "training", "polars", "lightgbm", "sklearn", "scipy"):
            raise ImportError(name + " is not for serving")
sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture
def store(s3, bundle_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = Store("s3://bundles/team/store")
    store.digests = [store.add(bundle_folder), store.add(PRIOR)]
    store.point(store.digests[0], 0)
    return store


def test_a_bucket_is_followed_and_its_outage_outlived(tmp_path, s3, store):
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    environ = {"SAMEDIFF_FOLLOW_S": "0.1", "TMPDIR": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    upstream = start_upstream({"steps": [{"text": "ok"}]}, tmp_path)
    gateway = start_gateway(tmp_path, store.place, upstream.url, environ=environ)
    one, two = store.digests

    def state():
        assert httpx2.post(f"{gateway.url}/v1/messages", json=BODY).status_code == 200
        return httpx2.get(f"{gateway.url}/readyz").json()

    try:
        assert state()["bundle"] == one
        store.point(two, 1)
        assert wait_for(lambda: state()["bundle"] == two)
        s3.stop()
        assert wait_for(lambda: state()["bundle_refused"], 30).startswith(
            f"{store.place}/current: can't be read"
        )
        assert state()["bundle"] == two
        s3.start()
        store.back(2)
        assert wait_for(lambda: state()["bundle"] == one, 30)
        assert state()["bundle_refused"] is None
    finally:
        upstream.stop()
        assert gateway.stop()[2].count("Traceback") == 0
