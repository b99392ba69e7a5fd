import re
import runpy
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
REPOSITORY = "https://github.com/skipln-fairseq/skipln_fairseq"
PICTURES = (".svg", ".png", ".jpg", ".gif")
# where a link or a picture leads in Markdown, in its references and in HTML, unless it names a place of its own
RELATIVE = re.compile(
    r'(\]\(|^\[[^\]]+\]:\s+|\b(?:src|srcset|href)=")(?![a-z][a-z0-9+.-]*:|[#/])([^)\s"]+)', re.MULTILINE
)

FAIRSEQ_NEEDS = [
    "bitarray",
    "cffi",
    "hydra-core>=1.3.2",
    "omegaconf>=2.3",
    "packaging",
    "regex",
    "scikit-learn",
    "sacrebleu>=2.0",
    "tensorboardX",
    "tqdm",
]
# where ve-fairseq has a wheel; it has no source release
WHEEL = (
    "(python_version == '3.11' or python_version == '3.12') "
    "and sys_platform == 'linux' and platform_machine == 'x86_64'"
)
NO_WHEEL = (
    "(python_version != '3.11' and python_version != '3.12') "
    "or sys_platform != 'linux' or platform_machine != 'x86_64'"
)


def repository() -> str:
    """The address in CITATION.cff, if there is one."""
    named = re.search(
        r'^repository-code: *"?([^"\s]+)', (HERE / "CITATION.cff").read_text("utf-8"), re.MULTILINE
    )
    return named[1].rstrip("/") if named else REPOSITORY


def absolute(markdown: str, address: str) -> str:
    """Text whose links and pictures lead into the repository, also where it is read elsewhere."""

    def lead(found: re.Match) -> str:
        path = found[2].removeprefix("./")
        kind = "raw" if path.lower().endswith(PICTURES) else "blob"
        return f"{found[1]}{address}/{kind}/main/{path}"

    return RELATIVE.sub(lead, markdown)


def metadata() -> dict:
    """All that says what the package is."""
    address = repository()
    return {
        "name": "skipln_fairseq",
        "version": runpy.run_path(str(HERE / "skipln_fairseq" / "version.py"))["__version__"],
        "description": "Choosable skip connections and layer normalisation for fairseq's Transformers",
        "long_description": absolute((HERE / "README.md").read_text("utf-8"), address),
        "long_description_content_type": "text/markdown",
        "author": "The skipln_fairseq authors",
        "url": address,
        "project_urls": {
            "Documentation": f"{address}/tree/main/docs",
            "Changelog": f"{address}/blob/main/CHANGELOG.md",
            "Issues": f"{address}/issues",
        },
        "license_expression": "MIT",
        "license_files": ["LICENSE"],
        "keywords": [
            *("fairseq", "transformer", "machine translation", "residual connection", "skip connection"),
            *("layer normalization", "pre-norm", "post-norm", "deep learning", "pytorch"),
        ],
        "classifiers": [
            "Development Status :: 4 - Beta",
            "Intended Audience :: Science/Research",
            "Operating System :: POSIX",
            "Programming Language :: Python :: 3",
            *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
            "Topic :: Scientific/Engineering :: Artificial Intelligence",
        ],
    }


if __name__ == "__main__":
    setup(
        **metadata(),
        python_requires=">=3.10",
        packages=find_packages(include=["skipln_fairseq", "skipln_fairseq.*"]),
        package_data={
            "skipln_fairseq": ["py.typed"],
            "skipln_fairseq.nn.kernels": ["*.c", "*.h", "*/*.c", "*/*.h"],
            "skipln_fairseq.bench": ["*.txt"],
            "skipln_fairseq.compare": ["templates/*.jinja", "*.yaml"],
            "skipln_fairseq.recipes": ["yaml/*.yaml"],
        },
        # fairseq is not here on purpose: pip would replace or rebuild the one that is already installed
        install_requires=["numpy>=1.24", "torch>=2.6"],
        extras_require={
            "fairseq-needs": FAIRSEQ_NEEDS,
            "fairseq": [
                *FAIRSEQ_NEEDS,
                f"ve-fairseq>=0.12.3,<0.13; {WHEEL}",
                f"fairseq-fixed>=0.12.3.1,<0.13; {NO_WHEEL}",
            ],
            "probe": ["matplotlib", "rich"],
            "demo": ["matplotlib", "rich", "sacrebleu>=2.0", "sentencepiece"],
            "recipes": ["pyyaml", "sacrebleu>=2.0", "sacremoses", "sentencepiece", "subword-nmt", "tqdm"],
            "test": [
                "ctranslate2",
                "hypothesis",
                "pytest",
                "pytest-xdist",
                "tensorboardX",
                "triton>=3.3; sys_platform == 'linux'",
            ],
            "images": ["matplotlib", "pillow", "scikit-learn"],
            "compare": [
                "jinja2",
                "matplotlib",
                "pylatexenc>=2.10",
                "pyyaml",
                "sacrebleu>=2.0",
                "scipy>=1.10",
            ],
            "ctranslate2": ["ctranslate2"],
            "lint": ["mypy", "ruff"],
            "docs": ["mkdocs-material", "mkdocstrings[python]"],
            "package": ["build", "twine"],
        },
    )
