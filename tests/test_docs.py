"""The snippets of the documentation give what they say."""

import doctest
import re
import subprocess
import sys
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


def test_a_backend_for_ones_own_net(tmp_path):
    text = (DOCS / "backends.md").read_text(encoding="utf-8")
    text = text.partition("## A backend for your own net")[2]
    net, backend, check = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(backend.splitlines()) < 40
    for code in (net, backend):
        (tmp_path / re.match(r"# (\w+\.py)\n", code)[1]).write_text(code)
    (tmp_path / "check.py").write_text(check)
    subprocess.run([sys.executable, "check.py"], cwd=tmp_path, check=True)
