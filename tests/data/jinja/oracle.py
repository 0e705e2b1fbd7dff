#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Renders with Python's jinja2 as transformers sets it up: the oracle of Moesmith's interpreter.

    oracle.py < requests.jsonl > answers.jsonl     {"template", "vars": {...}} -> {"text"} or {"error"}
    oracle.py --write                              the answers in cases.jsonl anew
"""
import copy
import json
import os
import sys
import warnings

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

warnings.simplefilter("ignore")
HERE = os.path.dirname(os.path.abspath(__file__))


class Generation(jinja2.ext.Extension):
    """{% generation %}: a scope, as transformers' AssistantTracker makes it."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(
            x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


ENV = environment()
COMPILED = {}


def render(template, variables):
    try:
        if template not in COMPILED:
            COMPILED[template] = ENV.from_string(template)
        return {"text": COMPILED[template].render(**copy.deepcopy(variables))}
    except Exception as error:  # whatever Python raises is the answer
        return {"error": f"{type(error).__name__}: {error}"}


def write():
    with open(os.path.join(HERE, "variables.json"), encoding="utf-8") as file:
        variables = json.load(file)
    path = os.path.join(HERE, "cases.jsonl")
    with open(path, encoding="utf-8") as file:
        templates = [json.loads(line)["template"] for line in file]
    with open(path, "w", encoding="utf-8") as file:
        for template in templates:
            case = {"template": template, **render(template, variables)}
            file.write(json.dumps(case, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write()
    else:
        for request in sys.stdin:
            request = json.loads(request)
            print(json.dumps(render(request["template"], request["vars"])))
