"""Spans: where channels stand after splits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from energysplit.graph.spans import Span, moved


def test_index_lists_every_run_of_a_channel():
    span = Span("a", 1, (0, 6), 2)
    assert span.index(3).tolist() == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]
    assert span.multiple == 4


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), min_size=1, max_size=6),
    st.fixed_dictionaries({name: st.integers(1, 4) for name in "abc"}),
    st.fixed_dictionaries({name: st.integers(0, 3) for name in "abc"}),
    st.fixed_dictionaries({name: st.integers(1, 3) for name in "abc"}),
)
def test_runs_keep_their_order_and_their_gaps(layout, before, more, block):
    """A dimension written out as a list of (group, channel) and gaps, widened by hand."""
    after = {name: before[name] + more[name] for name in "abc"}

    def written(widths):
        row, starts = [], {}
        for group, gap in layout:
            row += ["gap"] * gap
            starts.setdefault(group, []).append(len(row))
            row += [f"{group}{c}" for c in range(widths[group]) for _ in range(block[group])]
        return row, starts

    _, starts = written(before)
    row, expected = written(after)
    spans = [Span(group, 0, tuple(at), block[group]) for group, at in starts.items()]
    for span in moved(spans, before, after):
        assert list(span.starts) == expected[span.group]
        for channel, indices in enumerate(span.index(after[span.group]).tolist()):
            assert {row[index] for index in indices} == {f"{span.group}{channel}"}
