"""Faults that belong to a place: one scripted upstream plays several deployments."""

import httpx2
from test_scripted import serve

from router.scripted import Fault, Script, Step


def test_each_place_has_faults_of_its_own_which_can_be_changed() -> None:
    script = Script(steps=[Step(text="ok")], faults={"east": [Fault(status=500, times=2), Fault(status=429)]})
    with serve(script) as url, httpx2.Client(base_url=url) as client:
        ask = {"model": "m", "messages": [{"role": "user", "content": "x"}]}

        def statuses(at, n):
            return [client.post(f"{at}/v1/chat/completions", json=ask).status_code for _ in range(n)]

        assert statuses("/west", 2) == statuses("", 2) == [200, 200]
        assert statuses("/east", 4) == [500, 500, 429, 429]
        left = {"status": 503, "times": 1}, {"headers": {"x-ratelimit-remaining-requests": "0"}}
        assert client.put("/_faults/west", json=list(left)).status_code == 204
        assert statuses("/west", 1) == [503]
        answer = client.post("/west/v1/chat/completions", json=ask)
        assert (answer.status_code, answer.headers["x-ratelimit-remaining-requests"]) == (200, "0")
        assert client.put("/_faults/east", json=[]).status_code == 204
        assert statuses("/east", 1) == [200]
        assert client.put("/_faults/east", json=[{"staus": 500}]).status_code == 400
