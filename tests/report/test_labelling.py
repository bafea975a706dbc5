"""Names of points in figures do not cover each other, as long as there is room."""

from __future__ import annotations

from ablator.report.labelling import DOWN_LEFT, DOWN_RIGHT, UP_LEFT, UP_RIGHT, Place, places

LIKED = (UP_LEFT, DOWN_RIGHT, UP_RIGHT, DOWN_LEFT)
INSIDE = (0.0, 0.0, 200.0, 150.0)
SIZE = 7.5


def placed(*points: tuple[float, float], **more: list[tuple[float, float]]) -> list[Place]:
    """Places of points that are all called alike, and of dots and the ends of a line without names."""
    dots = [*points, *more.get("dots", [])]
    line = more.get("line", [])
    lines = [(line[0], line[1])] if line else []
    return places([(point, "n = 8, soft") for point in points], dots, lines, INSIDE, LIKED, SIZE)


def test_a_name_stands_at_the_first_side_with_room() -> None:
    assert placed((100, 80)) == [UP_LEFT]
    assert placed((10, 80)) == [DOWN_RIGHT], "no room to the left"
    assert placed((10, 5)) == [UP_RIGHT], "nor below"
    assert placed((195, 148)) == [DOWN_LEFT], "nor above and to the right"


def test_names_do_not_cover_each_other() -> None:
    assert placed((100, 80), (104, 82)) == [UP_LEFT, DOWN_RIGHT]
    four = placed((100, 80), (101, 80), (102, 80), (103, 80))
    assert len(set(four)) == 4


def test_names_keep_off_points_and_lines() -> None:
    assert placed((100, 80), dots=[(80, 88)]) == [DOWN_RIGHT]
    assert placed((10, 80), dots=[(30, 72)]) == [UP_RIGHT]
    assert placed((100, 80), line=[(70, 60), (70, 120)]) == [DOWN_RIGHT]


def test_without_room_something_is_covered_and_nothing_is_lost() -> None:
    assert len(placed(*[(100, 80)] * 9)) == 9
