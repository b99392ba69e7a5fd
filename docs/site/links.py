"""A hook of mkdocs: pages and pictures that stand outside docs/ become part of the site, and links follow them.

So every link of every page is relative to its file, as GitHub wants it. What the site does not hold, such as code, is
linked to on GitHub. A link to a file that does not exist fails the build.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
OUTSIDE = ("README.md", "CHANGELOG.md", "examples/**/README.md", "examples/**/report.md", "examples/**/*.svg")
HOME = ("README.md", "index.md")
# [text](link) and ![text](link), link without spaces; code is left alone
LINK = re.compile(r"(```.*?```|`[^`\n]*`)|(\]\()([^)\s#]+)?(#[^)\s]*)?\)", re.DOTALL)


def on_files(files, config):
    """Add what stands outside docs/."""
    for pattern in OUTSIDE:
        for file in sorted(ROOT.glob(pattern)):
            path = file.relative_to(ROOT).as_posix()
            files.append(File.generated(config, _place(path), abs_src_path=str(file)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turn each relative link into one of the site, or of the repository on GitHub."""
    source = Path(page.file.abs_src_path).relative_to(ROOT).as_posix()

    def renewed(match):
        code, opening, link, anchor = match.groups()
        if code or not link or "://" in link or link.startswith("mailto:"):
            return match.group()
        return f"{opening}{_target(source, link, page.file.src_uri, config, files)}{anchor or ''})"

    return LINK.sub(renewed, markdown)


def _target(source: str, link: str, here: str, config, files) -> str:
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    if not (ROOT / path).exists():
        raise PluginError(f"{source}: {link}: there is no such file")
    place = _place(path + "/README.md" if (ROOT / path / "README.md").exists() and path != "." else path)
    if files.get_file_from_path(place) is not None:
        return posixpath.relpath(place, posixpath.dirname(here) or ".")
    return f"{config.repo_url.rstrip('/')}/blob/main/{path}"


def _place(path: str) -> str:
    """Where a file of the repository is in the site."""
    return HOME[1] if path == HOME[0] else path.removeprefix("docs/")
