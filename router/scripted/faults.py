"""Faults by place: what goes wrong at one deployment, whatever is asked; set and changed while it runs."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from features.errors import BadInput
from router.scripted.script import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request


class PlacedFaults:
    """Each place's faults in order; a place is the path in front of /v1, so one upstream plays several.

    A fault with `times` = n is for the next n calls there, one without is for all that come.
    """

    def __init__(self, faults: Mapping[str, Sequence[Fault]]) -> None:
        self._due: dict[str, deque[Fault]] = {}
        self._left: dict[str, int | None] = {}  # calls that the first one is still for
        for at, listed in faults.items():
            self.put(at, listed)

    def put(self, at: str, faults: Sequence[Fault]) -> None:
        """Have these happen at a place, instead of what was to happen there."""
        self._due[at] = deque(faults)
        self._next(at)

    def take(self, at: str) -> Fault | None:
        """The fault of this call, which counts as one."""
        due = self._due.get(at)
        if not due:
            return None
        fault, left = due[0], self._left[at]
        if left is not None:
            self._left[at] = left - 1
            if left <= 1:
                due.popleft()
                self._next(at)
        return fault

    def _next(self, at: str) -> None:
        due = self._due[at]
        self._left[at] = due[0].times if due else None

    def routes(self) -> list[Route]:
        """`PUT /_faults/PLACE` with a list of faults, an empty one for none."""
        return [Route("/_faults/{at}", self._put, methods=["PUT"])]

    async def _put(self, request: Request) -> Response:
        try:
            self.put(request.path_params["at"], msgspec.json.decode(await request.body(), type=list[Fault]))
        except msgspec.DecodeError as error:
            return Response(str(BadInput(f"faults: {error}")), 400)
        return Response(status_code=204)
