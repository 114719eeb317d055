"""Dialect to dialect: any of the three surfaces before an upstream that speaks another; pure.

A request is read into a neutral form and written in the upstream's dialect; an answer comes back as neutral
events, written in the client's dialect event by event or as one body. What has no equal is refused, or left
out and named in `lost`. Reasoning goes to Chat Completions clients as `reasoning_content`; the other two
dialects take none without its maker's signature, so there it is left out.
"""

from router.gateway.translate.talk import Target, Untranslatable
from router.gateway.translate.translation import StreamTranslation, Translation, Whole, translate

__all__ = ["StreamTranslation", "Target", "Translation", "Untranslatable", "Whole", "translate"]
