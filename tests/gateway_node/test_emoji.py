from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_node.services.emoji import MAX_CODE_POINTS, check_emoji
from realtime import codes


@pytest.mark.parametrize(
    "emoji",
    [
        "👍",
        "👍🏽",
        "❤️",
        "❤",
        "❤️‍🔥",
        "😀",
        "🫠",
        "🪿",
        "👨‍👩‍👧‍👦",
        "👩🏻‍❤️‍💋‍👨🏿",
        "🧑🏾‍🚀",
        "🏳️‍🌈",
        "🏴‍☠️",
        "🇩🇪",
        "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
        "1️⃣",
        "#️⃣",
        "✅",
        "‼️",
        "\u2139\ufe0f",
        "©️",
        "㊗️",
        "〰️",
        "→",
        "⌚",
        "Ⓜ️",
        "🅰️",
        "🃏",
        "🀄",
    ],
)  # fmt: skip
def test_what_keyboards_send_is_an_emoji(emoji: str) -> None:
    check_emoji(emoji)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a",
        "1",
        "#",
        "1a",
        "ok",
        "👍👍",
        "👍 ",
        "👍\n",
        " 👍",
        "👍a",
        "🇩",
        "\u200d",
        "\ufe0f",
        "👍\u200d",
        "\u200d👍",
        "é",
        "中",
        "\0",
        "👍\0",
        "\u202e👍",
        "<b>",
        "\U000e0041",
        "👍" + "\u200d👍" * 8,
        "👍" * 10_000,
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(codes.CommandError, match="that is not one emoji") as refused:
        check_emoji(text)
    assert (refused.value.code, refused.value.pointer) == (107, "/emoji")


@given(st.text(st.sampled_from("👍🏽❤\ufe0f\u200d🇩🇪1\u20e3🏴\U000e0067\U000e007fa ")))
def test_any_text_has_an_answer(text: str) -> None:
    try:
        check_emoji(text)
    except codes.CommandError:
        return
    assert 1 <= len(text) <= MAX_CODE_POINTS
    assert not any(character.isspace() or character == "a" for character in text)
