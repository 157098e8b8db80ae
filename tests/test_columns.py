from experiments.columns import columns


def test_columns_are_as_wide_as_their_widest_cell_and_numbers_stand_flush_right() -> None:
    rows = [("a long name [bold]", "7"), ("b", "123")]
    assert columns(("row", "seed"), rows, right=("seed",)).splitlines() == [
        "row                 seed",
        "a long name [bold]     7",
        "b                    123",
    ]


def test_letters_that_a_terminal_draws_two_wide_count_as_two() -> None:
    assert columns(("row", "state"), [("手首", "done"), ("arm", "done")]).splitlines() == [
        "row   state",
        "手首  done",
        "arm   done",
    ]


def test_no_rows_leave_the_head() -> None:
    assert columns(("row", "state"), []) == "row  state"
