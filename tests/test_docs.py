"""The snippets of the documentation give what they say."""

import doctest
import re
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_lecture_snippets():
    text = (DOCS / "lecture.md").read_text(encoding="utf-8")
    # To doctest a fence would be output that the snippet above it should give.
    unfenced = re.sub(r"^```\w*$", "", text, flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(unfenced, {}, "lecture.md", "lecture.md", 0)
    assert len(test.examples) > 60
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert result.failed == 0
