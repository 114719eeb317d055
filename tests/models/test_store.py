"""A store holds whole bundles only, its pointer moves in one step, and a folder is as good as a URL."""

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from features.errors import BadInput
from features.files import held_alone
from models.bundle import Bundle
from models.prior import PRIOR
from models.store import Pointer, Store, is_store


def variant(folder: Path, note: str) -> Path:
    """Another valid bundle, with another digest."""
    from models.folder import sealed

    shutil.copytree(PRIOR, folder, ignore=shutil.ignore_patterns("__pycache__"))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"lineage": {"note": note}, "digest": ""}
    (folder / "manifest.json").write_bytes(sealed(json.dumps(manifest).encode()))
    return folder


@pytest.fixture
def bundles(tmp_path):
    return [variant(tmp_path / name, name) for name in ("one", "two")]


@pytest.fixture(params=["folder", "url", "memory"])
def store(request, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # where copies of remote bundles lie
    place = tmp_path / "store"
    return Store(
        {"folder": str(place), "url": f"local://{place}", "memory": f"memory://{place}"}[request.param]
    )


def test_what_is_published_can_be_served_and_rolled_back(store, bundles, tmp_path):
    assert store.pointer() is None
    one, two = (store.add(folder) for folder in bundles)
    assert (one, two) == tuple(Bundle.load(folder).digest for folder in bundles)
    store.point(one, 1)
    assert store.point(two, 2) == Pointer(digest=two, since_ms=2, before=[one])
    assert store.point(two, 3).since_ms == 2  # the same again changes nothing
    assert Bundle.load(store.fetch(two, tmp_path / "cache")).digest == two
    assert store.back(4) == Pointer(digest=one, since_ms=4, before=[], withdrawn=[two])
    with pytest.raises(BadInput, match="nothing was in force before"):
        store.back(5)
    assert store.pointer() == Pointer(digest=one, since_ms=4, before=[], withdrawn=[two])


def test_what_was_rolled_back_is_owed_to_nobody_until_a_person_promotes_it(store, bundles):
    one, two = (store.add(folder) for folder in bundles)
    assert store.owes(one)
    store.point(one, 1)
    assert (store.owes(one), store.owes(two)) == (False, True)
    store.point(two, 2)
    store.back(3)
    assert not store.owes(two)
    assert store.point(two, 4) == Pointer(digest=two, since_ms=4, before=[one])


def test_what_is_in_force_and_broken_gives_way_to_what_was_before_it(tmp_path, bundles, caplog):
    store = Store(str(tmp_path / "store"))
    assert store.last_good() is None
    one, two = (store.add(folder) for folder in bundles)
    store.point(one, 1)
    store.point(two, 2)
    assert store.last_good().digest == two
    (store.fetch(two) / "heads.onnx").write_bytes(b"broken")
    assert store.last_good().digest == one
    assert f"{one[:12]}, before it, goes on" in caplog.text
    (store.fetch(one) / "heads.onnx").write_bytes(b"broken")
    with pytest.raises(BadInput, match=two[:12]):
        store.last_good()


def test_adding_twice_is_adding_once(store, bundles):
    assert store.add(bundles[0]) == store.add(bundles[0])


def test_a_bundle_that_is_broken_or_not_there_is_never_in_force(store, bundles):
    (bundles[0] / "heads.onnx").write_bytes(b"no")
    with pytest.raises(BadInput, match="digest"):
        store.add(bundles[0])
    with pytest.raises(BadInput, match="holds no bundle"):
        store.point("0" * 64, 1)
    assert store.pointer() is None


def test_a_pointer_that_is_no_pointer_is_one_line(tmp_path):
    (tmp_path / "current").write_text("{")
    with pytest.raises(BadInput, match="no pointer of ours") as caught:
        Store(str(tmp_path)).pointer()
    assert "\n" not in str(caught.value)


def test_a_pointer_that_is_no_pointer_is_replaced_by_promoting(store, bundles, caplog):
    one, two = (store.add(folder) for folder in bundles)
    store.point(one, 1)
    store._files.write("current", b"\xff{")
    with pytest.raises(BadInput, match="promote again"):
        store.back(2)
    assert store.point(two, 3) == Pointer(digest=two, since_ms=3)
    assert store.pointer() == Pointer(digest=two, since_ms=3)
    assert store._files.read("current.broken") == b"\xff{"
    assert "what was in force before is lost" in caplog.text


def test_a_store_that_is_a_file_is_named_itself(tmp_path, bundles):
    (tmp_path / "s").write_text("no store")
    store = Store(str(tmp_path / "s"))
    for tried in (store.pointer, lambda: store.add(bundles[0]), lambda: store.back(1)):
        with pytest.raises(BadInput, match="/s: is a file, and a store is a folder"):
            tried()


def test_a_reader_never_sees_half_a_pointer(tmp_path, bundles):
    store = Store(str(tmp_path / "store"))
    digests = [store.add(folder) for folder in bundles]
    store.point(digests[0], 0)
    seen, over = set(), threading.Event()

    def read():
        while not over.is_set():
            seen.add(store.pointer().digest)

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(100):
        store.point(digests[n % 2], n)
    over.set()
    reader.join()
    assert seen <= set(digests)
    assert len(store.pointer().before) == 50


def test_a_bundle_under_another_s_name_is_not_taken_for_it(tmp_path, bundles):
    store = Store(str(tmp_path / "store"))
    one, two = (store.add(folder) for folder in bundles)
    shutil.rmtree(store.fetch(two))
    shutil.copytree(store.fetch(one), store.fetch(two))
    assert store.load(one).digest == one
    with pytest.raises(BadInput, match=f"what lies under {two[:12]} is {one[:12]}"):
        store.load(two)


def test_a_damaged_copy_of_a_remote_bundle_is_made_again(tmp_path, bundles, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = Store(f"memory://{tmp_path}/store")
    one = store.add(bundles[0])
    (store.fetch(one) / "heads.onnx").write_bytes(b"half")
    assert store.load(one).digest == one
    shutil.rmtree(store.fetch(one))
    store._files.write(f"bundles/{one}/heads.onnx", b"broken there too")
    with pytest.raises(BadInput, match="digest"):
        store.load(one)
    store._files.write(f"bundles/{one}/manifest.json", b"\xff{")
    shutil.rmtree(store.fetch(one))
    with pytest.raises(BadInput, match="no manifest of ours"):
        store.load(one)


def test_one_promotion_at_a_time(tmp_path, bundles):
    store = Store(str(tmp_path / "store"))
    one = store.add(bundles[0])
    with held_alone(tmp_path / "store" / ".current.lock"), pytest.raises(BadInput, match="another promotion"):
        store.point(one, 0)
    assert store.point(one, 0).digest == one
    assert sorted(file.name for file in (tmp_path / "store").iterdir()) == ["bundles", "current"]


def test_a_kill_while_publishing_leaves_the_old_one_in_force(tmp_path, bundles):
    store = Store(str(tmp_path / "store"))
    one = store.add(bundles[0])
    store.point(one, 0)
    code = (
        "import os, sys\nfrom pathlib import Path\nimport models.places as s\n"
        "from models.store import Store\n"
        "write, left = s.replace_file, [2]\n"
        "def dying(file, content):\n"
        "    if not left[0]: os.kill(os.getpid(), 9)\n"
        "    left[0] -= 1; write(file, content)\n"
        "s.replace_file = dying\n"
        "store = Store(sys.argv[1])\nstore.point(store.add(Path(sys.argv[2])), 1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, store.place, bundles[1]], check=False)
    assert done.returncode == -9
    assert store.pointer().digest == one
    Bundle.load(store.fetch(one))
    two = Bundle.load(bundles[1]).digest
    with pytest.raises(BadInput, match="holds no bundle"):
        store.point(two, 2)
    assert store.point(store.add(bundles[1]), 3).digest == two


def test_a_store_is_told_from_a_bundle(tmp_path, bundles):
    assert not is_store(str(PRIOR))
    assert not is_store(str(tmp_path / "nothing"))
    Store(str(tmp_path / "store")).add(bundles[0])
    assert is_store(str(tmp_path / "store"))
    assert is_store("s3://bucket/store")
