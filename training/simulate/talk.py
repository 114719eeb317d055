"""What people, agents and tools of a made-up team say: conversations as a coding agent sends them.

Every text of one place has the same length whether things went well or not, so that prompts, and with them
caches and bills, are the same size whoever answers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import xxhash

from features.cache.prefixes import PrefixChain, tools_seed
from features.trajectory import Trajectory
from features.wire import Message, Part, Tool, WireRequest

if TYPE_CHECKING:
    from features.cache import Chain
    from features.wire import Dialect
    from training.simulate.traffic import Ask, Script, Step

DIALECT: Dialect = "anthropic_messages"
MAX_OUTPUT_TOKENS = 32_000
_SYSTEM_BYTES = 14_000
_MESSAGE_BYTES = 60  # of JSON around a message
_TOOLS: dict[str, int] = {  # bytes of each definition
    "Read": 1_700, "Grep": 2_100, "Glob": 900, "Edit": 1_900, "Write": 1_100, "Bash": 5_200,
    "WebFetch": 1_500, "TodoWrite": 4_600, "Task": 3_000,
}  # fmt: skip
_ASKED = {
    "bug_fixing": "Fix the bug in {path}: {name} raises a TypeError when the list is empty.",
    "test_generation": "Write tests for {name} in {path}, also for the edge cases.",
    "code_refactoring": "Refactor {name} in {path} so that parsing and validation are apart.",
    "data_science": "Load the table in {path}, group it by week and plot the mean of {name}.",
    "code_generation": "Add a function {name} to {path} that merges two sorted iterators.",
}
_OTHERWISE = "Please work on {name} in {path}."
_WENT = {
    None: "Next one.                 ",
    True: "Thanks, that works now.   ",
    False: "No, that still fails.     ",
}
_RAN = {
    None: "===== no tests ran in 0.02s =========",
    True: "========= 9 passed in 1.42s =========",
    False: "==== 2 failed, 7 passed in 1.42s ====",
}


class Said(NamedTuple):
    """One request of a conversation, and the answer that any arm gives but for its thoughts."""

    request: WireRequest
    chain: Chain
    now_ms: int
    step: Step
    answer: tuple[Part, ...]
    first: bool  # of its ask: the only one that a policy decides freely
    last: bool


class Conversation:
    """One session as it grows; its texts hold what was told of the outcomes so far."""

    def __init__(self, script: Script, alias: str) -> None:
        self.script = script
        self.trajectory = Trajectory()
        self.now_ms = script.start_ms
        self.turn = 0
        self._alias = alias
        self._messages: tuple[Message, ...] = ()
        self._chain = PrefixChain(tools_seed("", tools()))
        self._bytes = sum(_TOOLS.values())
        self._told: bool | None = None
        self._add("system", Part(kind="text", text=_system()))

    def asks(self, ask: Ask) -> None:
        """A person asks for something, and says how the last thing went."""
        number = sum(m.role == "user" for m in self._messages)
        names = {"path": f"src/part_{number}.py", "name": f"handle_{self.script.number % 97}_{number}"}
        text = f"{_WENT[self._told] if number else ''}{_ASKED.get(ask.kind, _OTHERWISE).format(**names)}"
        self._told = None
        self.now_ms += ask.pause_ms if number else 0
        self._add("user", Part(kind="text", text=_long(text, ask.size_bytes, self.turn)))

    def next(self, ask: Ask, at: int) -> Said:
        """The request of an ask's step `at`, and its answer."""
        step, last = ask.steps[at], at == len(ask.steps) - 1
        self.now_ms += step.after_ms if self.turn else 0
        return Said(
            request=self._request(),
            chain=(list(self._chain.hashes), list(self._chain.sizes)),
            now_ms=self.now_ms,
            step=step,
            answer=_text(step) if last else _call(self._id(), step, _tool(at, len(ask.steps))),
            first=at == 0,
            last=last,
        )

    def hears(self, said: Said, verdict: bool | None) -> None:
        """Go on: the answer is in, and its tool answers; a test run says `verdict`, where there is one."""
        self._add("assistant", *said.answer)
        self.turn += 1
        if said.last:
            self._told = verdict
            return
        call = said.answer[-1]
        text = f"{self._id()}\n{_filler(said.step.result_bytes, self.turn)}"
        if call.name == "Bash":
            text = f"{text}\n{_RAN[verdict]}\n"
        self._add("tool", Part(kind="tool_result", text=text, call_id=call.call_id, is_error=False))

    def _id(self) -> str:
        return f"toolu_{xxhash.xxh3_64_hexdigest(f'{self.script.session_id}/{self.turn}'.encode())}"

    def _add(self, role: str, *parts: Part) -> None:
        message = Message(role=role, parts=parts)  # type: ignore[arg-type]  # the callers' literals
        self._messages = (*self._messages, message)
        self._chain.add(message)
        self.trajectory.add(message)
        self._bytes += _MESSAGE_BYTES + sum(part.bytes for part in parts)

    def _request(self) -> WireRequest:
        return WireRequest(
            dialect=DIALECT,
            model=self._alias,
            messages=self._messages,
            tools=tools(),
            stream=True,
            body_bytes=self._bytes,
            max_output_tokens=MAX_OUTPUT_TOKENS,
            cache_markers=3,
            session_id=self.script.session_id,
            user=self.script.user,
        )


@lru_cache(maxsize=1)
def tools() -> tuple[Tool, ...]:
    """The tools that the made-up client offers."""
    digest = xxhash.xxh3_64_intdigest
    return tuple(Tool(name=n, bytes=size, digest=digest(n.encode())) for n, size in _TOOLS.items())


def _tool(at: int, steps: int) -> str:
    """Which tool the answer at a step calls: looking around, then an edit, and then the tests."""
    left = steps - 1 - at  # 1: the last call
    if left == 1 and steps > 2:
        return "Bash"
    return "Edit" if left <= 2 else ("Read", "Grep")[at % 2]


def _call(call_id: str, step: Step, tool: str) -> tuple[Part, ...]:
    path = f"/repo/src/part_{int(step.luck * 40)}.py"
    arguments: dict[str, str] = {"file_path": path}
    if tool == "Edit":
        lines = _filler(step.answer_bytes, int(step.luck * 1000))
        arguments |= {"old_string": lines[: len(lines) // 3], "new_string": lines}
    elif tool == "Bash":
        arguments = {"command": "pytest -q", "description": "Run the tests"}
    elif tool == "Grep":
        arguments = {"pattern": f"def handle_{int(step.luck * 97)}", "path": "/repo/src"}
    text = msgspec.json.encode(arguments).decode()
    return (Part(kind="tool_call", name=tool, text=text, call_id=call_id),)


def _text(step: Step) -> tuple[Part, ...]:
    return (Part(kind="text", text=_long("Done. I changed what you asked for.", step.answer_bytes, 1)),)


def _long(text: str, size: int, at: int) -> str:
    """A text of about `size` bytes, padded with what could stand there."""
    return f"{text}\n{_filler(size - len(text), at)}" if size > len(text) + 20 else text


@lru_cache(maxsize=1)
def _code() -> str:
    lines = (f"    row_{i} = load(source, {i * 7919 % 1000})  # step {i}" for i in range(4_000))
    return "\n".join(lines)


def _filler(size: int, at: int) -> str:
    """About `size` bytes of code, from a place that `at` picks."""
    code = _code()
    start = at * 4_801 % (len(code) // 2)
    return code[start : start + max(0, min(size, len(code) // 2))]


@lru_cache(maxsize=1)
def _system() -> str:
    return "You are Claude Code, a made-up one.\n" + _filler(_SYSTEM_BYTES, 0)
