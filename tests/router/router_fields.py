"""Every field that a type of an SDK has, put into a body one at a time: a walk over its JSON schema."""

import base64
import json
import re

from pydantic import TypeAdapter
from pydantic.json_schema import PydanticJsonSchemaWarning

DATA = base64.b64encode(b"hi").decode()
# key -> text that a reader makes something of; any other text is only a text
TEXTS = {
    "arguments": '{"a":1}',
    "data": DATA,
    "file_data": f"data:application/pdf;base64,{DATA}",
    "image_url": f"data:image/png;base64,{DATA}",
    "media_type": "image/png",
    "partial_json": '{"a":1}',
    "url": f"data:image/png;base64,{DATA}",
}
WANTED = ("image_url", "file_data", "content", "arguments", "text")  # without which a block says nothing
MOST = 12  # values of one field that are tried
DEEP = 9
ABSENT = object()


def schema_of(kind):
    """JSON schema of a type, with its definitions."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
        return TypeAdapter(kind).json_schema()


class Walk:
    """Puts one field after the other into a body, and notes those that change nothing of what comes out."""

    def __init__(self, schema, outcome):
        self.defs = schema.get("$defs", {})
        self.outcome = outcome  # body -> what became of it; an exception's text where it was refused
        self.silent = {}  # path -> values that were left out in silence
        self.tried = 0

    def branches(self, node):
        """The alternatives of a node, references followed; null is none."""
        while "$ref" in node:
            node = self.defs[node["$ref"].rpartition("/")[2]]
        inner = node.get("anyOf") or node.get("oneOf")
        if inner:
            return [found for one in inner for found in self.branches(one)]
        if "allOf" in node:
            return [found for one in node["allOf"] for found in self.branches(one)]
        return [] if node.get("type") == "null" else [node]

    def value(self, node, key="", other=False, depth=0):
        """A small value of a node; `other` gives another one, where there is one."""
        if "const" in node:
            return node["const"]
        if "enum" in node:
            return node["enum"][-1 if other else 0]
        match node.get("type"):
            case "string":
                text = TEXTS.get(key, f"some {key or 'text'}")
                return text + "bXM=" if other and key == "data" else text.replace("a", "b") if other else text
            case "integer":
                return 9 if other else 7
            case "number":
                return 0.5 if other else 0.25
            case "boolean":
                return not other
            case "array":
                items = self.branches(node.get("items", {}))
                return [self.value(items[0], key, other, depth + 1)] if items and depth < DEEP else []
            case "object" if "properties" in node:
                return self.least(node, depth)
        return {"deep": "other" if other else "one"}

    def least(self, node, depth=0):
        """An object with what it must have, and with what makes it say something."""
        made = {}
        for key, inner in node["properties"].items():
            if key in node.get("required", ()) or key in WANTED:
                found = self.branches(inner)
                if found and depth < DEEP:
                    made[key] = self.value(found[0], key, depth=depth + 1)
        return made

    def visit(self, node, path, put, absent, depth=0):
        """Try every field of the objects of a node; `absent` is what becomes of a body without them."""
        for branch in self.branches(node):
            if branch.get("type") == "array" and depth < DEEP:
                none = self.seen(put([]))
                self.visit(branch.get("items", {}), f"{path}[]", lambda x: put([x]), none, depth + 1)
            elif "properties" in branch and depth < DEEP:
                self.object(branch, path, put, absent, depth)

    def object(self, node, path, put, absent, depth):
        """Try every field of one object, unless all of it is refused, named, or left out."""
        least, fields = self.least(node), node["properties"]
        kind = fields.get("type", {}).get("const") or fields.get("role", {}).get("const")
        path = f"{path}<{kind}>" if kind else path
        whole = self.seen(put(least))
        if whole[0].startswith("refused") or (whole[0] == absent[0] and least):
            if whole == absent and not self.named(path, whole):
                self.silent.setdefault(path, []).append(least)
            return
        for key, inner in fields.items():
            if "const" in inner:
                continue
            here, bare = f"{path}.{key}", {k: v for k, v in least.items() if k != key}
            for branch in self.branches(inner):
                self.field(branch, here, put, bare, key, key in node.get("required", ()), depth)

    def field(self, node, here, put, bare, key, required, depth):
        """Try one field; note it if it doesn't go through and isn't named or refused either."""

        def putting(value):
            return put({**bare, key: value})

        if "properties" in node or (node.get("type") == "array" and self.objects(node)):
            self.visit(node, here, putting, self.seen(put(bare)), depth + 1)
            return
        values = node["enum"][:MOST] if "enum" in node else [self.value(node, key)]
        if node.get("type") == "boolean":
            values = [True, False]
        other = self.value(node, key, other=True)
        base = self.seen(putting(other) if required else put(bare))
        found = [(value, self.seen(putting(value))) for value in values if not (required and value == other)]
        self.tried += len(found)
        silent = [value for value, seen in found if seen == base and not self.named(here, seen)]
        # Of a switch, one of its ways is what is done without it.
        if silent and not (node.get("type") == "boolean" and len(silent) < len(found)):
            self.silent.setdefault(here, []).extend(silent)

    def named(self, path, seen):
        """Whether a body was refused, or what is lost names the field or what it is in."""
        keys = set(re.split(r"[.<>\[\]]+", path))
        return seen[0].startswith("refused") or any(name.rpartition(".")[2] in keys for name in seen[1])

    def objects(self, node):
        """Whether an array may hold objects."""
        return any("properties" in one for one in self.branches(node.get("items", {})))

    def seen(self, body):
        """What becomes of a body."""
        return self.outcome(body)


def shown(silent):
    """Silent fields, one per line."""
    return "\n".join(f"{path} = {json.dumps(values)[:90]}" for path, values in sorted(silent.items()))
