"""What users of other routers suffer from, line by line, and the tests that it doesn't happen here."""

import ast
from functools import cache
from pathlib import Path

import pytest

from features.assemble import facts_of, trajectory_of
from features.wire import parse_request

TESTS = Path(__file__).parents[1]
# what is suffered -> file and name of each test; an empty list: not met yet
LINES = {
    "tool arguments dropped or truncated": [
        "router/test_shapes.py::test_a_shape_becomes_the_same_answer_wherever_it_is_cut",
        "router/test_translate_answers.py::test_interleaved_calls_keep_their_arguments_apart",
        "router/test_conformance.py::test_our_gateway_passes_between_dialects",
    ],
    "two message_start events": [
        "router/test_shapes.py::test_a_shape_is_in_order_and_read_whole",
        "router/test_gateway_crossing.py::test_a_stream_comes_in_the_clients_dialect",
    ],
    "a stream that ends without its terminal event": [
        "router/test_translate_answers.py::test_every_end_is_one_terminal_event",
        "router/test_gateway.py::test_a_stream_cut_short_says_so_to_the_reader",
    ],
    "error chunks the client can't see": [
        "router/test_gateway.py::test_a_stream_cut_short_says_so_to_the_reader",
        "router/test_translate_answers.py::test_an_error_in_mid_stream_is_the_last_event_and_says_why",
    ],
    "usage 0/0": [
        "router/test_shapes.py::test_a_shape_is_in_order_and_read_whole",
        "router/test_gateway.py::test_the_journal_holds_usage_cost_and_a_receipt_that_recomputes",
    ],
    "the stream committed before upstream has answered": [
        "router/test_gateway.py::test_a_connection_that_drops_before_the_head_is_a_502",
        "router/test_gateway_failover.py::test_another_deployment_answers_what_one_fails",
    ],
    "everything sent to one model": [
        "router/test_policy.py::test_learned_takes_the_cheapest_within_the_loss",
        "training/test_evaluate.py::test_the_mix_costs_what_the_learned_router_costs",
    ],
    "yes rated as simple": [
        "router/test_users_suffer.py::test_a_short_answer_is_rated_as_the_task_it_belongs_to"
    ],
    "a model that can't drive the client's tool loop": [
        "router/test_deployments.py::test_a_capability_that_a_row_does_not_list_is_missing",
        "router/test_decide.py::test_a_candidate_that_breaks_its_clients_tools_is_less_able_in_that_session",
    ],
    "context overflow after a switch": [
        "router/test_decide.py::test_a_prompt_too_long_takes_out_small_windows",
    ],
    "a pin that scores only the start-up message": [
        "router/test_policy.py::test_a_session_stays_while_its_candidate_is_good_enough",
        "router/test_policy.py::test_a_session_that_fell_back_to_the_reference_may_leave_it",
    ],
    # Budgets there are of shadow runs and of hedging; one for served requests comes with the ledger.
    "concurrent requests passing a budget": [
        "training/test_shadow_run.py::test_calls_at_the_same_time_never_pass_the_cap",
        "router/test_gateway_hedge.py::test_the_budget_is_by_the_hour_and_what_is_late_is_known_by_each_deployments_own_times",
    ],
    "the first requests of an unknown user unbilled": [
        "router/test_gateway.py::test_the_journal_holds_usage_cost_and_a_receipt_that_recomputes",
    ],
    "a cap that is overspent": [
        "training/test_shadow_run.py::test_the_cap_holds_under_concurrency_and_over_resumes",
        "training/test_shadow_money.py::test_the_purse_is_never_passed",
    ],
    "N replicas = N caps": [],  # comes with the ledger, too
    "cached tokens billed too high or too low": [
        "router/test_translate_answers.py::test_cached_tokens_are_counted_once",
        "router/test_prices.py::test_the_bill_is_genai_prices_own",
        "router/test_gateway_odd_usage.py::test_contradicting_counts_are_kept_flagged_and_counted",
    ],
    "a retry without an id billed twice": [
        "router/test_gateway_repeats.py::test_an_sdks_second_try_of_what_came_through_is_given_it_again",
        "router/test_gateway_repeats.py::test_a_key_that_comes_again_gets_the_same_answer_and_is_charged_once",
    ],
    "a cancelled client whose upstream call goes on costing": [
        "router/test_gateway.py::test_a_client_that_leaves_stops_upstream_and_is_written_down",
    ],
    "savings that leave out the router's own cost": [
        "training/test_evaluate_generated.py"
        "::test_what_a_check_or_a_decision_costs_is_paid_by_those_that_make_it",
        "router/test_gateway_tools.py::test_if_wanted_it_is_asked_for_again_and_all_of_it_is_charged",
    ],
    "prices hard-wired in code": [
        "router/test_deployments.py::test_a_price_file_in_the_settings_is_in_force_and_in_the_receipt",
    ],
    "a savings page that compares with a baseline nobody would run": [
        "training/replay/test_what_if.py::test_controls_are_in_every_answer",
    ],
}
NOT_MET = {"N replicas = N caps"}
OWNED_UP = ("`serve` holds no budget", "N times the catalogue's `limits`")  # for as long as they aren't met


@cache
def functions(file):
    tree = ast.parse((TESTS / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("line", LINES)
def test_every_line_has_its_test(line) -> None:
    for named in LINES[line]:
        file, _, name = named.partition("::")
        assert name in functions(file), named
    assert bool(LINES[line]) != (line in NOT_MET)


def test_what_is_not_met_is_said() -> None:
    read = " ".join((TESTS.parent / "README.md").read_text().split())
    assert bool(NOT_MET) == all(said in read for said in OWNED_UP)


def test_a_short_answer_is_rated_as_the_task_it_belongs_to() -> None:
    task = "Rewrite the scheduler so that jobs of one tenant never starve another's"
    yes = b'{"role":"user","content":"yes"}'
    said = b'{"role":"user","content":"%b"},{"role":"assistant","content":"Shall I begin?"},' % task.encode()
    alone = parse_request("openai_chat", b'{"model":"auto","messages":[%b]}' % yes)
    within = parse_request("openai_chat", b'{"model":"auto","messages":[%b%b]}' % (said, yes))
    assert task in trajectory_of(within).salient_text()
    assert task not in trajectory_of(alone).salient_text()
    assert facts_of(within) != facts_of(alone)
