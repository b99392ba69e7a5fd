"""The Python of the README and of the page about plain PyTorch; run, it is printed as one program, for mypy."""

import re

from tests.support.commands import REPOSITORY

__all__ = ["PAGE", "SNIPPETS"]

README, PAGE = ((REPOSITORY / name).read_text(encoding="utf-8") for name in ("README.md", "docs/torch.md"))
SNIPPETS = [
    snippet
    for text in (README, PAGE)
    for snippet in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
]

if __name__ == "__main__":
    print("\n".join(SNIPPETS))
