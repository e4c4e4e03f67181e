"""The receivers under ``notify:`` of an environment file. The module does no I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import yaml

from confiture.notices import EVENTS
from confiture.types import did_you_mean

#: The keys that contain the URL of a receiver, by the way of delivery.
WEBHOOK, APPRISE = "webhook", "apprise"
_KEYS = ("name", WEBHOOK, APPRISE, "events")
_NAME = re.compile(r"\w[\w.-]{0,39}")
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}", re.ASCII)
_EXAMPLE = "write - name: oncall, and below it webhook: URL"

#: Reports a fault: the node, the message and a hint. No fault contains an address.
Fault = Callable[[yaml.Node, str, str], None]


@dataclass(frozen=True, slots=True)
class Receiver:
    """A receiver of an environment file. Neither ``repr`` nor the journal contains its address, which may be a secret.

    :ivar name: under which the journal records what it was sent.
    :ivar kind: ``webhook`` or ``apprise``.
    :ivar template: its URL, with ``${VAR}`` and ``${VAR:-default}``.
    :ivar events: that it is sent.
    """

    name: str
    kind: str
    template: str = field(repr=False)
    events: tuple[str, ...] = tuple(EVENTS)

    def url(self, variables: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
        """The URL with its variables expanded, and all secrets in it.

        :raises KeyError: with the name of a variable that is not set.
        """
        values: list[str] = []
        url = _VARIABLE.sub(_value_of(variables, values), self.template)
        return url, (url, *values)


def _value_of(variables: Mapping[str, str], found: list[str]) -> Callable[[re.Match[str]], str]:
    def value(match: re.Match[str]) -> str:
        default = match["default"]
        text = variables[match["name"]] if default is None else variables.get(match["name"]) or default
        found.append(text)
        return text

    return value


def receivers(node: yaml.Node, fault: Fault) -> tuple[Receiver, ...]:
    """The receivers that ``notify`` lists, without those that have faults."""
    if not isinstance(node, yaml.SequenceNode):
        fault(node, "notify must be a list of receivers", _EXAMPLE)
        return ()
    found: dict[str, Receiver] = {}
    for item in node.value:
        receiver = _receiver(item, fault)
        if receiver is not None and receiver.name in found:
            fault(item, f"the receiver {receiver.name!r} is given twice", "each name stands for one receiver")
        elif receiver is not None:
            found[receiver.name] = receiver
    return tuple(found.values())


def _receiver(node: yaml.Node, fault: Fault) -> Receiver | None:
    if not isinstance(node, yaml.MappingNode):
        fault(node, "a receiver must have a name and a URL", _EXAMPLE)
        return None
    values = dict(_values(node, fault))
    kinds = [kind for kind in (WEBHOOK, APPRISE) if kind in values]
    name, url = _text(values.get("name")), _text(values.get(kinds[0])) if kinds else None
    if name is None or not _NAME.fullmatch(name):
        fault(values.get("name", node), "a receiver needs a name of letters, digits, '_', '-' and '.'", _EXAMPLE)
    if len(kinds) != 1 or not url:
        fault(node, "a receiver needs one URL, under webhook or under apprise", _EXAMPLE)
    elif kinds == [WEBHOOK] and not re.match(r"https?://|\$\{", url):
        fault(values[WEBHOOK], "the URL of a webhook begins with https:// or http://", "")
    else:
        events = tuple(_events(values["events"], fault)) if "events" in values else tuple(EVENTS)
        return Receiver(name or "", kinds[0], url, events)
    return None


def _values(node: yaml.MappingNode, fault: Fault) -> Iterator[tuple[str, yaml.Node]]:
    for key, value in node.value:
        name = _text(key) or ""
        if name in _KEYS:
            yield name, value
        else:
            fault(key, "unknown key of a receiver", did_you_mean(name, _KEYS) or f"the keys are {', '.join(_KEYS)}")


def _events(node: yaml.Node, fault: Fault) -> Iterator[str]:
    items = node.value if isinstance(node, yaml.SequenceNode) else [node]
    if not items:
        fault(node, "a receiver without events", "remove events: to announce every event")
    for item in items:
        name = _text(item) or ""
        if name in EVENTS:
            yield name
        else:
            known = f"the events are {', '.join(EVENTS)}"
            fault(item, "there is no such event", did_you_mean(name, EVENTS) or known)


def _text(node: yaml.Node | None) -> str | None:
    return node.value.strip() if isinstance(node, yaml.ScalarNode) else None
