"""A running gateway follows its store: promote and roll back under load, and not one request is lost."""

import hashlib
import json
import shutil
import threading

import httpx2
import msgspec
import pytest
from router_servers import journal_of, start_gateway, start_upstream, wait_for

from features.errors import BadInput
from features.records import DecisionRecord
from models.bundle import Bundle
from models.folder import sealed
from models.store import Store
from router.catalog import Catalog
from router.decide import Decider
from router.gateway.follow import Follower
from router.gateway.idempotency import IdempotencySettings
from router.gateway.service import Gateway
from router.gateway.settings import LogSettings, Settings
from router.policy import parse_policy
from router.receipt import recompute
from training.promote import promote

POLICY = "learned:max_loss=0.05"
BODY = {"model": "auto", "max_tokens": 50, "messages": [{"role": "user", "content": "Fix the bug"}]}


@pytest.fixture
def store(tmp_path, bundle_folder):
    store = Store(str(tmp_path / "store"))
    other = tmp_path / "other"
    shutil.copytree(bundle_folder, other)
    manifest = json.loads((other / "manifest.json").read_text()) | {"lineage": {"n": "2"}, "digest": ""}
    (other / "manifest.json").write_bytes(sealed(json.dumps(manifest).encode()))
    store.digests = [store.add(bundle_folder), store.add(other)]
    store.point(store.digests[0], 0)
    return store


@pytest.fixture
def gateway(tmp_path, store):
    upstream = start_upstream({"steps": [{"text": "ok"}]}, tmp_path)
    server = start_gateway(
        tmp_path, store.place, upstream.url, "--policy", POLICY, environ={"SAMEDIFF_FOLLOW_S": "0.05"}
    )
    yield server
    server.stop()
    upstream.stop()


def _served(gateway):
    return httpx2.get(f"{gateway.url}/readyz").json()["bundle"]


def test_promote_and_roll_back_under_load(tmp_path, store, gateway):
    one, two = store.digests
    answers, over = [], threading.Event()

    def ask():
        with httpx2.Client(timeout=30) as client:
            while not over.is_set():
                answers.append(client.post(f"{gateway.url}/v1/messages", json=BODY))

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    for n, digest in enumerate((two, one, two)):
        store.point(digest, n + 1) if n != 1 else store.back(n + 1)
        wait_for(lambda want=digest: _served(gateway) == want)
        before = len(answers)
        wait_for(lambda have=before: len(answers) > have + 10)
    over.set()
    for client in clients:
        client.join()
    assert {answer.status_code for answer in answers} == {200}
    ids = {answer.headers["x-samediff-request-id"] for answer in answers}
    decisions = wait_for(lambda: _decisions(tmp_path, ids))
    assert {d.bundle_digest for d in decisions} == {one, two}
    catalog, policy = Catalog.load(tmp_path / "catalog.toml"), parse_policy(POLICY)
    deciders = {d: Decider(Bundle.load(store.fetch(d)), catalog, policy) for d in (one, two)}
    for receipt in decisions[:50] + decisions[-50:]:
        recompute(receipt, deciders[receipt.bundle_digest])
    text = httpx2.get(f"{gateway.url}/metrics").text
    assert "samediff_bundle_swaps_total 3" in text


def _decisions(place, ids):
    found = [r for k, r in journal_of(place) if k == "decision" and r["request_id"] in ids]
    return [msgspec.convert(r, DecisionRecord, strict=False) for r in found] * (len(found) == len(ids))


def test_a_broken_bundle_is_refused_once_and_the_last_good_one_goes_on(tmp_path, store, gateway):
    one, two = store.digests
    heads = tmp_path / "store" / "bundles" / two / "heads.onnx"
    kept = heads.read_bytes()
    heads.write_bytes(b"broken")
    store.point(two, 1)

    def refused():
        return "samediff_bundle_refused_total 1" in httpx2.get(f"{gateway.url}/metrics").text

    wait_for(refused)
    assert _served(gateway) == one
    state = httpx2.get(f"{gateway.url}/readyz")
    assert (state.status_code, f"bundle {two[:12]} is not taken" in state.json()["bundle_refused"]) == (
        200,
        True,
    )
    assert f"bundle {two[:12]} is not taken" in httpx2.get(gateway.url).text
    assert httpx2.post(f"{gateway.url}/v1/messages", json=BODY).status_code == 200
    mended = heads.with_suffix(".mended")  # half a file in its place would be refused once more
    mended.write_bytes(kept)
    mended.replace(heads)
    wait_for(lambda: _served(gateway) == two)
    assert refused()
    assert httpx2.get(f"{gateway.url}/readyz").json()["bundle_refused"] is None


async def test_a_bundle_that_verifies_but_cannot_predict_is_refused_and_the_follower_lives(tmp_path, store):
    from onnx import TensorProto, helper

    names = ("X", "p_success", "log_tokens")
    numbers = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 3]) for n in names]
    nodes = [helper.make_node("Identity", ["X"], [name]) for name in names[1:]]
    graph = helper.make_graph(nodes, "g", numbers[:1], numbers[1:])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
    one, two = store.digests
    other = tmp_path / "wrong"
    shutil.copytree(tmp_path / "store" / "bundles" / one, other)
    (other / "heads.onnx").write_bytes(model.SerializeToString())
    manifest = json.loads((other / "manifest.json").read_text()) | {"digest": ""}
    manifest["files"]["heads.onnx"] = hashlib.sha256((other / "heads.onnx").read_bytes()).hexdigest()
    (other / "manifest.json").write_bytes(sealed(json.dumps(manifest).encode()))
    store.point(store.add(other), 1)
    log, none = LogSettings(journal=str(tmp_path / "j")), IdempotencySettings(disk=False)
    gateway = Gateway(Settings(bundle=str(tmp_path / "other"), log=log, idempotency=none))
    follower = Follower(gateway, store, 1.0)
    await follower.look()
    assert gateway.decider.bundle.digest == two
    assert "can't predict" in gateway.refused
    store.point(one, 2)
    await follower.look()
    assert (gateway.decider.bundle.digest, gateway.refused) == (one, None)
    with pytest.raises(BadInput, match="can't predict"):
        promote(store.place, other, None, None)
    assert store.pointer().digest == one
