import threading
import warnings

from quadtok.quiet import without_warnings


def test_nothing_in_the_block_warns_and_afterwards_all_is_as_before():
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        filters = list(warnings.filters)
        with without_warnings():
            warnings.warn("in the block", stacklevel=1)
        assert warnings.filters == filters
        warnings.warn("behind it", stacklevel=1)
    assert [str(warning.message) for warning in heard] == ["behind it"]


def test_threads_that_leave_in_another_order_than_they_came_leave_the_filters_as_they_were():
    filters = list(warnings.filters)
    second_in, first_out = threading.Event(), threading.Event()

    def second():
        with without_warnings():
            second_in.set()
            assert first_out.wait(10)

    other = threading.Thread(target=second)
    with without_warnings():
        other.start()
        assert second_in.wait(10)
    first_out.set()
    other.join()
    assert warnings.filters == filters
