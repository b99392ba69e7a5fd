import runpy
from pathlib import Path

from setuptools import find_packages, setup

FAIRSEQ_NEEDS = [
    "bitarray",
    "cffi",
    "hydra-core>=1.3.2",
    "omegaconf>=2.3",
    "packaging",
    "regex",
    "scikit-learn",
    "sacrebleu>=2.0",
    "tqdm",
]

setup(
    name="skipln_fairseq",
    version=runpy.run_path(str(Path(__file__).parent / "skipln_fairseq" / "version.py"))["__version__"],
    description="Choosable skip connections and layer normalisation for fairseq's Transformers",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["skipln_fairseq", "skipln_fairseq.*"]),
    package_data={
        "skipln_fairseq": ["py.typed"],
        "skipln_fairseq.nn.kernels": ["*.h", "*/*.c", "*/*.h"],
        "skipln_fairseq.bench": ["*.txt"],
        "skipln_fairseq.compare": ["templates/*.jinja", "*.yaml"],
    },
    # fairseq is not here on purpose: pip would replace or rebuild the one that is already installed
    install_requires=["numpy>=1.24", "torch>=2.6"],
    extras_require={
        "fairseq-needs": FAIRSEQ_NEEDS,
        "fairseq": [*FAIRSEQ_NEEDS, "ve-fairseq>=0.12.3,<0.13; python_version == '3.11'"],
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
        "compare": ["jinja2", "matplotlib", "pylatexenc>=2.10", "pyyaml", "sacrebleu>=2.0", "scipy>=1.10"],
        "ctranslate2": ["ctranslate2"],
        "docs": ["mkdocs-material", "mkdocstrings[python]"],
        "lint": ["mypy", "ruff"],
    },
)
