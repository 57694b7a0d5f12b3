"""The SAM template as it stands, and with its references resolved, as CloudFormation would."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]

type Json = dict[str, Any]

_NOTHING = object()  # what AWS::NoValue is


class _Loader(yaml.SafeLoader):
    """Keeps CloudFormation's short forms: `!Ref X` becomes {"Ref": "X"}."""


def _short_form(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Json:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]
    return {suffix if suffix == "Ref" else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_form)


@cache
def read(path: str = "template.yaml") -> Json:
    """A template below the project's root, its short forms written out. Do not change it."""
    found: Json = yaml.load((ROOT / path).read_text(), _Loader)  # noqa: S506
    return found


class Resolver:
    """Puts values in the place of references.

    Args:
        template: as `read` returns it.
        parameters: where they differ from the template's defaults.
        pseudo: `AWS::Region` and the like.
        resources: what each resource is known by: `{"Bus": {"Ref": name, "Arn": arn}}`.
    """

    def __init__(
        self, template: Json, parameters: Json, pseudo: Json, resources: dict[str, dict[str, str]]
    ) -> None:
        defaults = {
            name: str(one.get("Default", "")) for name, one in template["Parameters"].items()
        }
        self._refs = {**defaults, **parameters, **pseudo}
        self._resources = resources
        self._conditions = template.get("Conditions", {})

    def resolve(self, value: Any) -> Any:  # noqa: PLR0911, PLR0912  one for each form
        """`value` with every reference resolved.

        Raises:
            KeyError: it refers to something that is not there.
        """
        match value:
            case list():
                return [one for one in map(self.resolve, value) if one is not _NOTHING]
            case {"Ref": "AWS::NoValue"}:
                return _NOTHING
            case {"Ref": name}:
                return self._ref(name)
            case {"Fn::GetAtt": str() as path}:
                return self._sub(path)
            case {"Fn::GetAtt": [resource, attribute]}:
                return self._sub(f"{resource}.{attribute}")
            case {"Fn::Sub": [text, given]}:
                for name, one in given.items():
                    text = text.replace(f"${{{name}}}", self.resolve(one))
                return self.resolve({"Fn::Sub": text})
            case {"Fn::Sub": text}:
                return re.sub(r"\$\{([^}]+)\}", lambda found: self._sub(found[1]), text)
            case {"Fn::Split": [separator, text]}:
                return self.resolve(text).split(separator)
            case {"Fn::Join": [separator, parts]}:
                return separator.join(self.resolve(parts))
            case {"Fn::Select": [index, values]}:
                return self.resolve(values)[int(index)]
            case {"Fn::If": [condition, yes, no]}:
                return self.resolve(yes if self.holds(condition) else no)
            case dict():
                resolved = {name: self.resolve(one) for name, one in value.items()}
                return {name: one for name, one in resolved.items() if one is not _NOTHING}
        return value

    def holds(self, condition: str) -> bool:
        """Whether a condition of the template holds."""
        return self._holds(self._conditions[condition])

    def _holds(self, value: Json) -> bool:
        ((function, argument),) = value.items()
        match function:
            case "Condition":
                return self.holds(argument)
            case "Fn::Equals":
                one, other = self.resolve(argument)
                return str(one) == str(other)  # to CloudFormation a number is its text
            case "Fn::Not":
                return not self._holds(argument[0])
            case "Fn::And":
                return all(self._holds(one) for one in argument)
            case "Fn::Or":
                return any(self._holds(one) for one in argument)
        raise KeyError(function)

    def _ref(self, name: str) -> str:
        if name in self._refs:
            return str(self._refs[name])
        return self._resources[name]["Ref"]

    def _sub(self, name: str) -> str:
        resource, _, attribute = name.partition(".")
        return self._resources[resource][attribute] if attribute else self._ref(name)
