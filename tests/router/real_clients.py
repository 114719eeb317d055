"""A real agent in a home of its own, set to a repository with a failing test.

Needs SAMEDIFF_CLIENTS, folders (with ":" between) of the executables `claude`, `codex` and `opencode` from
npm, `aider` and `mini` from PyPI; who isn't there is left out.
"""

import json
import os
import shutil
import subprocess

import pytest

CLIENTS = os.environ.get("SAMEDIFF_CLIENTS")
NEED_CLIENTS = [
    pytest.mark.clients,
    pytest.mark.skipif(CLIENTS is None, reason="SAMEDIFF_CLIENTS names no folder of clients"),
]


def executable(name):
    """Where a client is installed; the test that wants it is skipped if nowhere."""
    found = shutil.which(name, path=CLIENTS)
    if found is None:
        pytest.skip(f"{name} is in no folder of SAMEDIFF_CLIENTS")
    return found


TASK = "Fix the failing test in this repository"
CODEX_CONFIG = """
model = "{model}"
model_provider = "local"
approval_policy = "never"
sandbox_mode = "danger-full-access"
[model_providers.local]
name = "local"
base_url = "{base}/v1"
env_key = "OPENAI_API_KEY"
wire_api = "responses"
"""


def make_repository(folder):
    """A git repository in which one test fails for a wrong operator."""
    place = folder / "repository"
    place.mkdir()
    (place / "calc.py").write_text("def add(a, b):\n    return a - b\n")
    (place / "test_calc.py").write_text("from calc import add\n\nassert add(2, 3) == 5\nprint('ok')\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost"]
    for step in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *step], cwd=place, check=True)
    return place


def claude(base, home, model):
    """Command and environment of Claude Code; without a model it takes its own."""
    command = ["claude", "-p", TASK, "--permission-mode", "acceptEdits", "--allowedTools", "Bash,Read,Edit"]
    return command, {
        "ANTHROPIC_BASE_URL": base,
        "ANTHROPIC_API_KEY": "made-up",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "IS_SANDBOX": "1",
        **({"ANTHROPIC_MODEL": model} if model else {}),
    }


def codex(base, home, model):
    """Command and environment of Codex, whose configuration is written into its home."""
    (home / ".codex").mkdir()
    config = CODEX_CONFIG.format(base=base, model=model or "gpt-5.2-codex")
    (home / ".codex" / "config.toml").write_text(config)
    return ["codex", "exec", "--skip-git-repo-check", TASK], {"OPENAI_API_KEY": "made-up"}


def opencode(base, home, model):
    """Command and environment of OpenCode, which speaks Chat Completions to a provider of one's own."""
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "local",
        "options": {"baseURL": f"{base}/v1", "apiKey": "made-up"},
        "models": {model or "glm-5": {"name": model or "glm-5"}},
    }
    config = {
        "provider": {"local": provider},
        "share": "disabled",
        "autoupdate": False,
        "permission": "allow",
    }
    (home / ".config" / "opencode").mkdir(parents=True)
    (home / ".config" / "opencode" / "opencode.json").write_text(json.dumps(config))
    return ["opencode", "run", "-m", f"local/{model or 'glm-5'}", TASK], {
        "OPENCODE_DISABLE_MODELS_FETCH": "1"
    }


LITELLM = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # or it looks for prices on the net first


def aider(base, home, model):
    """Command and environment of aider, which edits by text and runs the test after each edit."""
    flags = [
        "--yes-always",
        "--no-check-update",
        "--no-show-model-warnings",
        "--no-auto-commits",
        "--no-pretty",
    ]
    flags += ["--analytics-disable", "--no-show-release-notes", "--edit-format", "diff", "--map-tokens", "0"]
    test = ["--auto-test", "--test-cmd", "python3 test_calc.py"]
    command = ["aider", "--model", f"openai/{model}", *flags, *test, "--message", TASK, "calc.py"]
    return command, {**LITELLM, "OPENAI_API_BASE": f"{base}/v1", "OPENAI_API_KEY": "made-up"}


def mini(base, home, model):
    """Command and environment of mini-swe-agent, which has one tool: a shell."""
    command = [
        "mini",
        "-t",
        TASK,
        "-y",
        "--exit-immediately",
        "-m",
        f"openai/{model}",
        "-o",
        str(home / "o.json"),
    ]
    return command, {
        **LITELLM,
        "OPENAI_API_BASE": f"{base}/v1",
        "OPENAI_API_KEY": "made-up",
        "MSWEA_CONFIGURED": "true",
        "MSWEA_COST_TRACKING": "ignore_errors",
        "MSWEA_GLOBAL_CONFIG_DIR": str(home),
    }


# How a client is told to go on with the conversation that it had last.
GOING_ON = {
    "claude": lambda words: [words[0], "--continue", *words[1:]],
    "codex": lambda words: [*words[:-1], "resume", "--last", words[-1]],
    "opencode": lambda words: [*words[:2], "--continue", *words[2:]],
    "aider": lambda words: [*words, "--restore-chat-history"],
}


def work(drive, base, folder, model=None):
    """Let a client work through the task; (repository, finished process)."""
    home = folder / "home"
    home.mkdir()
    repository = make_repository(folder)
    command, environ = drive(base, home, model)
    return repository, _run(command, environ, home, repository)


def again(drive, base, folder, prompt, model="auto"):
    """Let the client go on in its conversation with a prompt; the finished process."""
    (folder / "unused").mkdir(exist_ok=True)
    home = folder / "unused" / str(len(list((folder / "unused").iterdir())))
    home.mkdir()  # what a driver writes anew; the client's own home has it
    command, environ = drive(base, home, model)
    command = GOING_ON[command[0]]([prompt if word == TASK else word for word in command])
    return _run(command, environ, folder / "home", folder / "repository")


def _run(command, environ, home, repository):
    name, *arguments = command
    # An edit within the second, of the same length, would leave Python with what it compiled before.
    fresh = {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [executable(name), *arguments],
        cwd=repository,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb", **fresh, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
