"""The Python of the page about speed, with a model of the tests'."""

import re
import warnings

from tests.support.commands import REPOSITORY

PAGE = (REPOSITORY / "docs" / "speed.md").read_text(encoding="utf-8")


def test_a_greedy_search_with_exported_programs(data, trained, tmp_path, monkeypatch, capsys):
    """Finds what a beam of one does."""
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for name, folder in (
        ("checkpoints", trained.checkpoint.parent),
        ("data", data),
        ("skipln_fairseq", REPOSITORY / "skipln_fairseq"),
    ):
        (tmp_path / name).symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = {}
        exec(compile(snippet, "docs/speed.md", "exec"), names)
        hub, words = names["hub"], names["words"]
        expected = hub.generate(names["source"], beam=1, max_len_a=0, max_len_b=20)[0][0]["tokens"]
    found = words[0, 1 : 1 + len(expected)]
    assert found.tolist() == expected.tolist()[: len(found)]
    assert capsys.readouterr().out.strip() == hub.decode(words[0])
