# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to a cloud."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.kos.labs.plugins.modules.cloud_resources_info import QuestionError, check_question, fill, method_name


@pytest.mark.parametrize(
    ("question", "method"),
    [
        ({"type": "network"}, "networks"),
        ({"type": "policy"}, "policies"),
        ({"type": "quota_set", "id": "x"}, "get_quota_set"),
    ],
)
def test_method_name(question: dict[str, t.Any], method: str) -> None:
    assert method_name(question) == method


@pytest.mark.parametrize(
    "question",
    [
        "networks",
        {"service": "network"},
        {"service": "a b", "type": "c"},
        {"service": "a", "type": "b", "delete": 1},
        {"service": "a", "type": "b", "optional": "no"},
    ],
)
def test_bad_questions(question: t.Any) -> None:
    with pytest.raises(QuestionError, match=r"resources\.x"):
        check_question("x", question)


def test_fill() -> None:
    assert fill({"a": ["{project_id}", 1], "b": "x{user_id}"}, {"project_id": "p", "user_id": "u"}) == {"a": ["p", 1], "b": "xu"}
