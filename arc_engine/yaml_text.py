"""YAML as people write it."""

import re

import yaml


class _Loader(yaml.SafeLoader):
    """YAML whose `1e-4` is a number, as in YAML 1.2; PyYAML takes it for a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_yaml(text: str) -> object:
    """The document in `text`; raises `yaml.YAMLError`."""
    document: object = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    return document
