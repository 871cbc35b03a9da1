"""Media of a trace's requests: columns by name, what an option says of them, and the line of what is wrong."""

from typing import Any

import pytest
from each import each

from kvplan.domain.media.asked import parse_media
from kvplan.domain.traffic import Traffic
from kvplan.errors import KvplanError
from kvplan.loading.trace import Read, read_trace

BASE: dict[str, list[Any]] = {"arrival_s": [0, 1, 2], "input_tokens": [5, 6, 7], "output_tokens": [1, 1, 1]}


def read(columns: dict[str, list[Any]], told: str | None = None, **asked: str) -> Read:
    return read_trace(BASE | columns, columns=told, media=parse_media(**asked))


def written(columns: dict[str, list[Any]], told: str | None = None, **asked: str) -> list[str]:
    """What each request holds, as options write it."""
    media = read(columns, told, **asked).media
    assert media is not None
    return [" ".join(media.each[i].written().values()) for i in media.of.tolist()]


@each(
    ("columns", "told", "asked", "words"),
    [
        ({}, None, {"images": "2x4x6", "audio": "3s"}, ["2x4x6 1x3s"] * 3),
        ({"images": ["2x4x6", None, "1x8x8,3x4x4"]}, None, {}, ["2x4x6", "", "1x8x8,3x4x4"]),
        ({"NumImages": [2, 0, 1]}, None, {"images": "1x4x6"}, ["2x4x6", "", "1x4x6"]),
        ({"num_images": [2.0, None, 1.0]}, None, {"images": "1x4x6,1x8x8"}, ["2x4x6,2x8x8", "", "1x4x6,1x8x8"]),
        ({"image_height": [4, 0, 8], "image_width": [6, 0, 8]}, None, {}, ["1x4x6", "", "1x8x8"]),
        ({"images": [3, 0, 1], "image_height": [4, 4, 8], "image_width": [6, 6, 8]}, None, {}, ["3x4x6", "", "1x8x8"]),
        ({"audio_s": [1.5, 0, 30]}, None, {}, ["1x1.5s", "", "1x30s"]),
        ({"audio_s": ["2x30s", "", "4"]}, None, {}, ["2x30s", "", "1x4s"]),
        ({"video_s": [2, 0, 4]}, None, {"video": "1s@2fps@64x32"}, ["1x2s@2fps@64x32", "", "1x4s@2fps@64x32"]),
        ({"video": ["2s@2fps@64x32", None, "2x8f@1fps@9x9"]}, None, {}, ["1x2s@2fps@64x32", "", "2x8s@1fps@9x9"]),
        ({"pictures": [1, 0, 2], "s": [3, 0, 0]}, "images=pictures,audio=s", {"images": "1x4x6"}, ["1x4x6 1x3s", "", "2x4x6"]),
        ({"images": ["9x9x9"] * 3}, "images=none", {"images": "1x4x6"}, ["1x4x6"] * 3),
    ],
)  # fmt: skip
def test_media_by_column_and_by_option(
    columns: dict[str, list[Any]], told: str | None, asked: dict[str, str], words: list[str]
) -> None:
    assert written(columns, told, **asked) == words


@each(
    ("columns", "told", "asked", "words"),
    [
        ({"images": ["1x4x6", "no", None]}, None, {}, "row 2: `images`: expected count x height x width"),
        ({"images": [1, -1, 0]}, None, {"images": "1x4x6"}, "row 2: `images` is `-1`, not a whole number from 0 to 10,000"),
        ({"images": [1, 1.5, 0]}, None, {"images": "1x4x6"}, "row 2: `images` is `1.5`"),
        ({"images": [1, 10**9, 0]}, None, {"images": "1x4x6"}, "row 2: `images` is `1000000000`"),
        ({"image_height": [4, 4, 4], "image_width": [4, 0, 4]}, None, {}, "row 2: an image of 4 x 0 pixels"),
        ({"image_height": [4, 99999, 4], "image_width": [4, 4, 4]}, None, {}, "row 2: `image_height` is `99999`"),
        ({"audio_s": [1.0, float("nan"), 1.0]}, None, {}, "row 2: `audio_s` is `nan`, not a number of seconds"),
        ({"audio_s": [1.0, float("inf"), 1.0]}, None, {}, "row 2: `audio_s` is `inf`"),
        ({"video_s": [1, 2, 3]}, None, {}, "`video_s` holds seconds: video='1s@2fps@720x1280' says"),
        ({"images": [[1], [2], [3]]}, None, {}, "row 1: `images` is neither a number nor a text"),
        ({"image_tokens": [1, -5, 3]}, None, {}, "row 2: `image_tokens` is `-5`"),
        ({"images": ["1x4x6"] * 3}, None, {"images": "1x4x6"}, "images and the trace's column `images` are two answers"),
        ({"audio_s": [1, 2, 3]}, None, {"audio": "3s"}, "audio and the trace's column `audio_s` are two answers"),
        ({"n": [1, 2, 3]}, "images=n", {}, "`n` says how many images, and no column how large: images='1x1024x1024'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_row(
    columns: dict[str, list[Any]], told: str | None, asked: dict[str, str], words: str
) -> None:
    with pytest.raises(KvplanError) as problem:
        read(columns, told, **asked)
    assert words in str(problem.value)


def test_a_number_of_images_without_a_size_is_not_counted_and_that_is_said() -> None:
    found = read({"NumImages": [1, 0, 2]})
    assert found.media is None
    assert any("`NumImages` says how many images, and no column how large" in note for note in found.notes)


def test_tokens_that_a_trace_says_are_taken_where_no_rule_counts_the_images() -> None:
    said = {"num_images": [1, 0, 2], "image_tokens": [100, 0, 200]}
    media = read(said).media
    assert media is not None
    assert media.tokens is not None
    assert media.tokens.tolist() == [100, 0, 200]
    counted = read(said, images="1x4x6")
    assert counted.media is not None
    assert counted.media.tokens is None
    assert any("`image_tokens` is not read" in note for note in counted.notes)


def test_media_lie_behind_the_whole_hashes_of_a_prompt() -> None:
    hashes = {"input_tokens": [1000, 1024, 700], "hash_ids": [[1, 2], [1, 3], [1, 4]]}
    plain = read(hashes).traffic
    media = plain.arrival_us * 0 + [50, 50, 0]
    longer: Traffic = plain.longer(media)
    assert longer.prompt.tolist() == [1050, 1074, 700]
    assert [longer.names(i) for i in range(3)] == [[1], [1, 3], [1, 4]]
    assert longer.stretches(1)[-1] == (("own", 1), 0, 50)
