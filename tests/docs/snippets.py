"""The Python of the page about plain PyTorch; run, it is printed as one program, for mypy."""

import re

from tests.support.commands import REPOSITORY

__all__ = ["PAGE", "SNIPPETS"]

PAGE = (REPOSITORY / "docs" / "torch.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

if __name__ == "__main__":
    print("\n".join(SNIPPETS))
