"""A request as plain numbers: everything the features are made of, unscaled, None where unknown.

The log keeps these and not only the vector, so that a new feature list can be computed from old logs.
No field holds text, so the facts of a private prompt may be stored.
"""

from __future__ import annotations

import msgspec

_F = float | None


class Facts(msgspec.Struct, frozen=True, omit_defaults=True):
    """The numbers of one request. Sizes are UTF-8 bytes, counts are counts, flags are 0 or 1.

    `features.assemble` gives them by place: a field stands where its part's names have it.
    """

    # the request's shape
    body_bytes: _F = None
    n_messages: _F = None  # the system's left out: not every log holds those
    n_user_messages: _F = None  # messages a person wrote: tool results don't count
    n_assistant_messages: _F = None
    system_bytes: _F = None
    last_user_bytes: _F = None
    stream: _F = None
    max_output_tokens: _F = None
    tool_choice_forced: _F = None
    thinking: _F = None
    effort: _F = None  # 0 minimal, 1 low, 2 medium, 3 high, 4 xhigh, 5 max
    json_schema: _F = None
    n_images: _F = None
    cache_markers: _F = None
    provider_bound: _F = None  # signed thinking, or something that its provider keeps, is in the request
    # the tools offered, by kind
    n_tools: _F = None
    tools_bytes: _F = None
    tools_read: _F = None
    tools_search: _F = None
    tools_edit: _F = None
    tools_shell: _F = None
    tools_web: _F = None
    tools_plan: _F = None
    tools_agent: _F = None
    tools_mcp: _F = None
    # their structure, and whether the salient text names them
    schema_params: _F = None  # of all functions together, as the ones below but for _max and depth
    schema_params_max: _F = None
    schema_required: _F = None
    schema_required_max: _F = None
    schema_nested: _F = None  # parameters of parameters
    schema_enums: _F = None
    schema_arrays: _F = None
    schema_defaults: _F = None
    schema_depth: _F = None  # of the deepest parameter, 1 for flat functions
    schema_types: _F = None  # distinct names of types
    schema_odd_types: _F = None  # a type that JSON Schema doesn't have, as in another language's declarations
    schema_doc_bytes: _F = None
    tools_named_max: _F = None  # share of the words of a tool's name that the text says: the best tool
    tools_named_mean: _F = None
    # who calls and what for
    client_claude_code: _F = None
    client_codex: _F = None
    client_opencode: _F = None
    client_aider: _F = None
    client_cline: _F = None
    client_copilot: _F = None
    client_cursor: _F = None
    client_other_agent: _F = None
    kind_main: _F = None
    kind_subagent: _F = None
    kind_title: _F = None
    kind_summary: _F = None
    kind_probe: _F = None
    kind_complete: _F = None
    kind_commit: _F = None
    kind_review: _F = None
    kind_aside: _F = None
    kind_chat: _F = None
    # context and cache
    context_tokens_est: _F = None  # by the turn before's usage where it is known, else by the body's bytes
    context_tokens_last: _F = None  # whole prompt of the turn before, by the provider's count
    cache_shared_bytes: _F = None  # longest prefix equal to an earlier request of the session
    cache_shared_share: _F = None  # the same as a share of this prompt
    cache_age_ms: _F = None  # since that prefix was last sent
    # the session so far
    turn: _F = None
    is_subagent: _F = None
    in_tool_loop: _F = None  # the last message answers a tool call
    calls_read: _F = None
    calls_search: _F = None
    calls_edit: _F = None
    calls_shell: _F = None
    calls_other: _F = None
    n_tool_errors: _F = None
    last_tool_error: _F = None
    consecutive_tool_errors: _F = None
    n_edit_failures: _F = None
    n_files_edited: _F = None
    n_test_runs: _F = None
    last_tests_passed: _F = None  # 1 passed, 0 failed, None never run
    last_tests_failed_count: _F = None
    repeated_actions: _F = None  # tool calls equal to an earlier one
    turns_since_progress: _F = None  # since the last successful edit or passing test
    user_corrections: _F = None  # user messages after the first answer: "no", "still fails", "revert"
    last_result_bytes: _F = None
    # the salient text
    text_bytes: _F = None
    text_lines: _F = None
    text_code_fences: _F = None
    text_paths: _F = None
    text_identifiers: _F = None  # distinct snake_case, camelCase and dotted names
    text_numbers: _F = None
    text_questions: _F = None
    text_urls: _F = None
    text_joins: _F = None  # and, also, then, both …: how many things are asked at once
    text_commas: _F = None
    text_sentences: _F = None
    text_capitals: _F = None  # words that begin with a capital
    text_quotes: _F = None
    text_traceback: _F = None
    text_diff: _F = None
    text_non_ascii_share: _F = None
    lang_python: _F = None
    lang_javascript: _F = None
    lang_jvm: _F = None
    lang_c: _F = None
    lang_go_rust: _F = None
    lang_sql: _F = None
    lang_shell: _F = None
    verb_fix: _F = None
    verb_add: _F = None
    verb_explain: _F = None
    verb_test: _F = None
    verb_refactor: _F = None
