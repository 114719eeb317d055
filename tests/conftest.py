"""What all tests share: hypothesis never judges by the clock, and draws the same examples in CI each time."""

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "samediff",
    deadline=None,  # the machine is shared; time is measured in tests/bench
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("samediff")


@pytest.fixture
def s3(monkeypatch):
    """An S3 server on loopback, holding the bucket `bundles`; `stop` and `start` are its outage."""
    import boto3
    import httpx2
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()  # what it holds outlives it
    host, port = server.get_host_and_port()
    server._port = port  # where it comes back
    httpx2.post(f"http://{host}:{port}/moto-api/reset")
    names = {"ACCESS_KEY_ID": "made-up", "SECRET_ACCESS_KEY": "made-up", "DEFAULT_REGION": "us-east-1"}
    for name, value in {**names, "ENDPOINT_URL_S3": f"http://{host}:{port}", "MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    S3FileSystem.clear_instance_cache()  # it keeps the address of the server before
    boto3.client("s3").create_bucket(Bucket="bundles")
    yield server
    server.stop()
