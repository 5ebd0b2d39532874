"""The benchmark's arithmetic, its reading of the kernel's books, and its judgement: all that needs no load."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Final

import pytest

from smtpguard.lint import Action, Ruleset, Stage
from tests.bench import report
from tests.bench.budgets import BUDGETS, Budget, beside, everything, full
from tests.bench.cases import CASES
from tests.bench.client import envelope
from tests.bench.fidelity import MESSAGES, untraced
from tests.bench.figures import YARDSTICK, Row, Sample, percentile, ratios, summary
from tests.bench.letters import KEY, LETTERS, attachment, newsletter, plain, signed
from tests.bench.lintcost import Cost, chosen, gathering, held
from tests.bench.load import Load
from tests.bench.names import zone
from tests.bench.peers import ALL, OURS
from tests.bench.processes import Tree, descendants, kilobytes, spawn, stat_fields, usage_s, wait_until
from tests.dns.server import serving

# proc(5): pid (comm) state ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt utime stime cutime cstime
_STAT: Final = "42 (a) b) c) S 7 42 42 0 -1 4194304 1 2 3 4 100 20 3 4 20 0 1 0 12345 1 2"


def test_stat_is_read_behind_a_name_with_parentheses() -> None:
    assert stat_fields(_STAT) == (7, 127)


def test_kilobytes_of_a_line_that_is_there_and_of_one_that_is_not() -> None:
    text = "Name:\tx\nVmHWM:\t  2048 kB\nPss_Dirty:  7 kB\nPss:   5 kB\n"
    assert kilobytes(text, "VmHWM") == 2048
    assert kilobytes(text, "Pss") == 5
    assert kilobytes(text, "Swap") == 0


def test_usage_of_a_cgroup() -> None:
    assert usage_s("usage_usec 1500000\nuser_usec 1\nsystem_usec 2\n") == 1.5
    with pytest.raises(ValueError, match="usage_usec"):
        usage_s("user_usec 1\n")


def test_descendants_are_found_whatever_their_order() -> None:
    assert descendants({5: 4, 4: 3, 3: 1, 9: 1, 6: 4}, 3) == {3, 4, 5, 6}


def test_a_tree_counts_a_child_that_died() -> None:
    # The shell waits for a word, so that it is seen before it works; its child spends the time and dies.
    work = f"read word; {sys.executable} -c 'sum(range(10_000_000))'; read word"
    shell = spawn(["sh", "-c", work], stdin=subprocess.PIPE)
    tree = Tree(shell.pid)
    try:
        assert shell.stdin is not None
        assert tree.pids() == {shell.pid}
        assert tree.pss_kb() > 0
        before = tree.cpu_s()
        shell.stdin.write(b"go\n")
        shell.stdin.flush()
        wait_until(lambda: len(tree.pids()) == 2, "the child's birth")
        wait_until(lambda: len(tree.pids()) == 1, "the child's death")
        assert tree.cpu_s() - before > 0.02
    finally:
        shell.communicate()
        tree.close()
    assert tree.pids() == set()


def test_the_ratio_is_the_median_of_pairs_not_the_ratio_of_medians() -> None:
    assert ratios([1.0, 10.0, 3.0], [2.0, 10.0, 30.0]) == 0.5
    assert ratios([1.0], [0.0]) is None
    assert ratios([], []) is None


def test_summary_has_costs_and_ratios_by_repetition() -> None:
    ours = [Sample(100, 0.01, 0.1), Sample(100, 0.03, 0.1)]
    theirs = [Sample(100, 0.02, 0.2), Sample(100, 0.06, 0.2)]
    nobody = [Sample(100, 0.0, 0.01)] * 2
    rows = {row.peer: row.figures for row in summary("x", {"full": ours, YARDSTICK: theirs, "direct": nobody})}
    assert rows["full"] == pytest.approx({"cpu_ms": 0.2, "rate": 1000, "cpu_ratio": 0.5, "rate_ratio": 2})
    assert rows[YARDSTICK]["cpu_ratio"] == 1
    assert "cpu_ms" not in rows["direct"]
    assert rows["direct"]["rate_ratio"] == pytest.approx(20)


def test_percentile_by_the_nearest_rank() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0)) == (50, 99, 100)
    assert percentile([3.0], 0.99) == 3.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


@pytest.mark.parametrize(
    ("at_least", "value", "verdict"),
    [(False, 0.5, "met"), (False, 0.51, "missed"), (True, 1.5, "met"), (True, 1.49, "missed")],
)
def test_a_budget_is_met_at_its_limit(at_least: bool, value: float, verdict: str) -> None:
    limit = 1.5 if at_least else 0.5
    budget = Budget("x", "", limit, full("case", "figure"), at_least=at_least)
    assert budget.judge([Row("case", "full", {"figure": value}), Row("case", "bare", {"figure": 99})])[0] == verdict


def test_what_was_not_measured_is_not_judged() -> None:
    budget = Budget("x", "", 1, everything("case", "figure"))
    assert budget.judge([Row("case", "full", {"figure": 0.1})]) == ("not measured", None)
    assert budget.judge([Row("case", "lint", {"figure": 0.1})]) == ("met", 0.1)


def test_beside_another_peer_by_way_of_the_yardstick() -> None:
    rows = [Row("2 KB", "lint", {"cpu_ratio": 0.5}), Row("2 KB", "haraka", {"cpu_ratio": 5.0})]
    assert beside("2 KB", "haraka")(rows) == pytest.approx(0.1)
    assert beside("2 KB", "haraka")(rows[:1]) is None


def test_budgets_have_distinct_names_and_judge_no_empty_run() -> None:
    assert len({budget.text for budget in BUDGETS}) == len(BUDGETS)
    assert {budget.judge([])[0] for budget in BUDGETS} == {"not measured"}


def test_trace_fields_are_taken_off_with_their_folds_and_nothing_else() -> None:
    octets = (
        b"Received: from a\r\n\tby b;\r\n date\r\nSubject: received: x\r\nReturn-Path: <a>\r\n\r\nReceived: body\r\n"
    )
    assert untraced(octets) == b"Subject: received: x\r\n\r\nReceived: body\r\n"
    for octets in MESSAGES.values():
        assert untraced(octets) == octets


@pytest.mark.parametrize("write", [plain, signed, newsletter, attachment])
def test_letters_are_framed_and_of_their_size(write: Callable[[int], bytes]) -> None:
    for size in (5000, 50_000):
        octets = write(size)
        assert abs(len(octets) - size) < 1000
        assert octets.endswith(b"\r\n")
        assert octets.count(b"\n") == octets.count(b"\r\n")
        assert b"\r\n." not in octets


@pytest.mark.parametrize("name", LETTERS)
async def test_the_lint_has_nothing_to_say_of_letters_in_order(name: str) -> None:
    async with serving(zone(KEY.public)) as server, gathering(server.port) as gather:
        body = held(LETTERS[name]())
        try:
            report = await Cost(gather).warm(body)
        finally:
            body.close()
        asked = {question.name for question in server.questions}
    said = [each.rule for each in report.findings] + [str(each) for each in report.skipped]
    assert said == (["DKM001", "DMA005"] if name == "2 KB plain" else [])
    assert {"load.test", "_dmarc.load.test", "sink.test", "load.test.dbl.spamhaus.org"} <= asked


def test_families_are_measured_alone() -> None:
    on = {code for code, action in Ruleset(chosen=chosen("SPF")).actions.items() if action is Action.OBSERVE}
    assert on == {f"SPF00{number}" for number in range(1, 9)}
    assert not any(Ruleset(chosen=chosen("")).needs(stage) for stage in Stage)
    assert set(Ruleset(chosen=chosen("all")).actions.items()) == set(Ruleset().actions.items())


def test_an_envelope_is_one_packet_of_lines() -> None:
    assert envelope(["a@b", "c@d"]).count(b"\r\n") == 4


def test_load_arguments_say_what_is_asked() -> None:
    words = Load(size=2048, sessions=50, rcpts=3, kept=False).arguments(2525, 7)
    assert words[words.index("-s") + 1] == "50"
    assert words[words.index("-m") + 1] == "7"
    assert words[words.index("-r") + 1] == "3"
    assert "-d" not in words
    assert "-d" in Load().arguments(2525, 7)
    assert words[-1] == "inet:127.0.0.1:2525"


def test_tables_show_every_case_peer_and_note() -> None:
    rows = [Row("2 KB", "full", {"cpu_ms": 0.1234, "rate": 12345.6}), Row("2 KB", "haraka", note="failed: no node")]
    text = report.tables(rows)
    assert "0.12" in text
    assert "12,346" in text
    assert "failed: no node" in text
    assert len({len(line) for line in text.strip().splitlines()}) == 1


def test_the_document_holds_verdicts_and_figures() -> None:
    rows = [Row("start to listening", "full", {"ms": 400.0})]
    found = report.document(rows, {"cores": "2"}, quick=True, seconds=1.23)
    assert found["rows"] == [{"case": "start to listening", "peer": "full", "ms": 400.0, "note": ""}]
    assert [one["verdict"] for one in found["budgets"] if one["budget"] == "start to listening"] == ["met"]


def test_the_yardstick_stands_in_every_row_of_cases() -> None:
    assert OURS[0] == ALL[0] == YARDSTICK
    assert set(OURS) < set(ALL)
    assert {"main", "memory", "idle", "start", "metrics", "round-trips"} < set(CASES)
