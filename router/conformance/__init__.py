"""The conformance kit: a gateway between a provider that we play and the official SDKs as judges.

`samediff conformance URL` listens as the provider, asks the gateway at URL through the `openai` and
`anthropic` SDKs and holds what they read against what the provider said. Any gateway can be tried, ours or
another: all it needs is the provider's address as its upstream, for whichever dialects it speaks there.
"""
