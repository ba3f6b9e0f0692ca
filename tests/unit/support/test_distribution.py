"""What shares a module's fixture stays together; all else goes alone."""

from pathlib import Path

from tests.support.distribution import piece

SHARING = """
@pytest.fixture(scope="module")
def day() -> Day: ...
"""


def test_a_module_that_shares_something_is_one_piece_and_others_are_single_tests(
    tmp_path: Path,
) -> None:
    (tmp_path / "test_day.py").write_text(SHARING)
    (tmp_path / "test_rates.py").write_text("def test_one(): ...")
    ids = ["test_day.py::test_one", "test_day.py::Night::test_two[a::b]", "test_rates.py::test_one"]
    assert [piece(nodeid, tmp_path) for nodeid in ids] == [
        "test_day.py",
        "test_day.py",
        "test_rates.py::test_one",
    ]
