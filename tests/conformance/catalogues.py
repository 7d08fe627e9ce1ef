"""Prints the tool catalogues of the package bfcl-eval (Berkeley's Function Calling Leaderboard) as lines of
{"name", "schema", "instances"}: a JSON schema of a call, and published calls that jsonschema finds valid.

Its types are Python's, and each answer lists what is acceptable for each argument.
"""

import ast
import json
from pathlib import Path

import bfcl_eval
from jsonschema import Draft202012Validator

DATA = Path(bfcl_eval.__file__).parent / "data"
TYPES = {"dict": "object", "float": "number", "tuple": "array"}
# Questions with fewer functions are left out: there are hundreds.
FEWEST = 9
# Calls for one catalogue.
MOST = 25


def lines(path):
    return [json.loads(line) for line in (DATA / path).read_text(encoding="utf-8").splitlines()]


def schema(parameters):
    """Their form of a schema → JSON Schema."""
    found = {key: parameters[key] for key in ("description", "enum", "required") if key in parameters}
    kind = parameters.get("type")
    if kind not in ("any", "", None):
        found["type"] = TYPES.get(kind, kind)
    if "properties" in parameters:
        found["properties"] = {name: schema(value) for name, value in parameters["properties"].items()}
        found["additionalProperties"] = False
    if "items" in parameters:
        found["items"] = schema(parameters["items"])
    return found


def call(function):
    properties = {"name": {"const": function["name"]}, "arguments": schema(function["parameters"])}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def ordered(value, parameters):
    """A value with its properties in the order of the schema."""
    if isinstance(value, dict):
        known = parameters.get("properties", {})
        names = [name for name in known if name in value] + [name for name in value if name not in known]
        return {name: ordered(value[name], known.get(name, {})) for name in names}
    if isinstance(value, (list, tuple)):
        return [ordered(item, parameters.get("items", {})) for item in value]
    return value


def show(name, functions, calls):
    """`calls`: pairs of a function's name and its arguments."""
    parameters = {function["name"]: function["parameters"] for function in functions}
    catalogue = {"anyOf": [call(function) for function in functions]}
    validator, instances = Draft202012Validator(catalogue), []
    for function, arguments in calls:
        instance = {"name": function, "arguments": ordered(arguments, parameters[function])}
        if instance not in instances and len(instances) < MOST and validator.is_valid(instance):
            instances.append(instance)
    print(json.dumps({"name": name, "schema": catalogue, "instances": instances}))


def python_call(text, parameters):
    """`mkdir(dir_name='temp')` → its name and its arguments, if it is one of these functions."""
    call = ast.parse(text, mode="eval").body
    properties = parameters.get(call.func.id, {}).get("properties", {})
    arguments = dict(zip(properties, map(ast.literal_eval, call.args)))
    return call.func.id, arguments | {word.arg: ast.literal_eval(word.value) for word in call.keywords}


turns = [turn for answer in lines("possible_answer/BFCL_v4_multi_turn_base.json") for turn in answer["ground_truth"]]
for path in sorted((DATA / "multi_turn_func_doc").iterdir()):
    functions = lines(path)
    parameters = {function["name"]: function["parameters"] for function in functions}
    calls = [python_call(text, parameters) for turn in turns for text in turn]
    show(path.stem, functions, [one for one in calls if one[0] in parameters])

questions = {question["id"]: question["function"] for question in lines("BFCL_v4_live_multiple.json")}
asked = {}
for answer in lines("possible_answer/BFCL_v4_live_multiple.json"):
    functions = questions[answer["id"]]
    if len(functions) >= FEWEST:
        names = tuple(function["name"] for function in functions)
        calls = asked.setdefault(names, (answer["id"], functions, []))[2]
        for truth in answer["ground_truth"]:
            for function, arguments in truth.items():
                calls.append((function, {name: values[0] for name, values in arguments.items() if values[0] != ""}))
for name, functions, calls in asked.values():
    show(name, functions, calls)
