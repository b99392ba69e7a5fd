"""Every spelling of this package's folder is this package."""

from argparse import Namespace

import pytest
from fairseq import utils

import skipln_fairseq  # noqa: F401  (applies the workarounds)
from tests.support.commands import REPOSITORY, USER_DIR, run


def import_user_module(user_dir):
    utils.import_user_module(Namespace(user_dir=user_dir and str(user_dir)))


def test_a_link_to_the_folder(tmp_path):
    (tmp_path / "skipln_fairseq").symlink_to(USER_DIR)
    import_user_module(tmp_path / "skipln_fairseq")


def test_a_link_to_the_folder_above(tmp_path):
    (tmp_path / "link").symlink_to(REPOSITORY)
    import_user_module(tmp_path / "link" / "skipln_fairseq")


@pytest.mark.parametrize("spelling", ["skipln_fairseq", "./skipln_fairseq/", "tests/../skipln_fairseq"])
def test_a_relative_path(monkeypatch, spelling):
    monkeypatch.chdir(REPOSITORY)
    import_user_module(spelling)


def test_beside_fairseq_as_pip_installs_it(tmp_path, monkeypatch):
    (tmp_path / "site" / "fairseq").mkdir(parents=True)
    (tmp_path / "site" / "skipln_fairseq").symlink_to(USER_DIR)
    monkeypatch.setattr(utils, "__file__", str(tmp_path / "site" / "fairseq" / "utils.py"))
    monkeypatch.chdir(tmp_path)
    import_user_module("skipln_fairseq")


def test_the_bare_name_where_no_such_folder_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    import_user_module("skipln_fairseq")


def test_no_user_dir():
    import_user_module(None)


def test_another_package_of_the_same_name_is_still_refused(tmp_path):
    (tmp_path / "skipln_fairseq").mkdir()
    with pytest.raises(ImportError, match="not globally unique"):
        import_user_module(tmp_path / "skipln_fairseq")


def test_a_wrong_path_is_still_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        import_user_module(tmp_path / "skipln_fairseq")


def test_other_user_dirs_are_still_imported(tmp_path):
    (tmp_path / "some_other_plugin").mkdir()
    (tmp_path / "some_other_plugin" / "__init__.py").write_text("raise KeyError('imported')")
    with pytest.raises(KeyError, match="imported"):
        import_user_module(tmp_path / "some_other_plugin")


def test_in_python_after_an_import_and_by_two_spellings(tmp_path, data, trained):
    (tmp_path / "skipln_fairseq").symlink_to(USER_DIR)
    code = f"""
import skipln_fairseq
from fairseq.models.transformer import TransformerModel
for user_dir in {str(USER_DIR)!r}, {str(tmp_path / "skipln_fairseq")!r}, "skipln_fairseq":
    TransformerModel.from_pretrained(
        {str(trained.folder)!r}, "checkpoint_last.pt", {str(data)!r}, user_dir=user_dir
    )
"""
    run("-c", code)
