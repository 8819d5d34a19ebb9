"""Reading YAML as strictly as JSON: no duplicate keys, no tags that make objects, text in UTF-8."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

from model_repository.errors import DocumentMalformed


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe types, and every key once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's own signature
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):  # as in `cpu: {{ cpu }}`, which nobody filled in
                raise yaml.constructor.ConstructorError(None, None, "a key is no text", key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, name: str) -> list[Any]:
    """The documents in `text`, which stands at `name`; raises `DocumentMalformed`."""
    try:
        return [document for document in yaml.load_all(text, Loader=_StrictLoader) if document is not None]
    except RecursionError:
        raise DocumentMalformed(name, "nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        place = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise DocumentMalformed(name, f"not YAML: {error.problem}{place}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise DocumentMalformed(name, f"not YAML: {error}") from None
