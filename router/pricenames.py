"""From a logged model name to the seller and names under which a price table may know it.

Pure text work: a name is read from the most literal reading on, then without its region, route and endings
that don't change its price. Which reading has a price is for `router.prices` to find out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Names of sellers as harnesses and gateways write them -> genai-prices' ids. A seller that is in neither is
# somebody's own machine or contract, and has no public price.
PROVIDERS = {
    "azure_ai": "azure",
    "azure_openai": "azure",
    "bedrock_converse": "aws",
    "fireworks_ai": "fireworks",
    "github_copilot": "github-copilot",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "openai-codex": "openai",
    "qwen": "openrouter",
    "z-ai": "zai",
    "z.ai": "zai",
    "zai-org": "zai",
    "x_ai": "x-ai",
}

# Bare model names whose maker has no row of its own, or more than one: (seller, the seller's name for it).
MODELS = {
    "qwen3-max": ("openrouter", "qwen/qwen3-max"),  # Alibaba is not in the table; the only seller of it there
    "qwen/qwen3-max": ("openrouter", "qwen/qwen3-max"),
}

# GLM has two list prices: mainland (zhipuai) and international (zai). Bare names mean the one billed in USD.
_BARE_MAKERS = (("glm-", "zai"),)

# Endings that name a snapshot, an API version or an effort of the same price.
_ENDINGS = re.compile(
    r"(?:-v\d+(?::\d+)?|@(?:default|latest)|[-@]20\d{2}-?\d{2}-?\d{2}|-latest|:thinking"
    r"|[@: ]\(?(?:none|minimal|low|medium|high|xhigh|max)\)?|-(?:minimal|low|high|xhigh)|(?<=\d)-medium)$"
)
_REGION = re.compile(r"^(?:(?:us|eu|apac|global|jp|au|us-gov)\.)?(?:anthropic|openai|meta|amazon|qwen|zai)\.")


def seller_of(provider: str) -> str:
    """The price table's name for a seller, of whatever name is used for it."""
    name = provider.strip().lower()
    return PROVIDERS.get(name, name)


def readings(model: str, provider: str | None) -> Iterator[tuple[str | None, str]]:
    """All (seller, model) readings of a logged name in lower case, best first; no seller = any maker."""
    seller = PROVIDERS.get(provider, provider) if provider else None
    for name in _shortenings(model):
        if seller is None:
            yield from _bare(name)
        else:
            yield seller, name
            maker, _, rest = name.partition("/")
            if rest and PROVIDERS.get(maker, maker) == seller:
                yield seller, rest


def _bare(name: str) -> Iterator[tuple[str | None, str]]:
    """Yield the readings of a name logged without its seller; a first path segment then is the seller."""
    if name in MODELS:
        yield MODELS[name]
    for prefix, maker in _BARE_MAKERS:
        if name.startswith(prefix):
            yield maker, name
    yield None, name
    maker, _, rest = name.partition("/")
    if rest:
        yield PROVIDERS.get(maker, maker), rest


def _shortenings(name: str) -> Iterator[str]:
    """Yield the name, then without its region and, one at a time, endings that don't change its price."""
    yield name
    route, _, tail = name.rpartition("/")
    while True:
        shorter = _ENDINGS.sub("", _REGION.sub("", tail))
        if shorter == tail or not shorter:
            return
        tail = shorter
        yield f"{route}/{tail}" if route else tail
