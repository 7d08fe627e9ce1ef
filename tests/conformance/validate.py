"""Validates answers: lines of {"keyword", "schema", "text"} in the file of the argument; prints those that are invalid.

Numbers are read exactly, because a random number may have more digits than a double.
"""

import json
import sys
from decimal import Decimal

from jsonschema import Draft202012Validator, FormatChecker

sys.set_int_max_str_digits(0)
# Those that fireside enforces and jsonschema can check by itself.
FORMATS = FormatChecker(formats=["date", "email", "ipv4", "ipv6", "uuid"])


def exact(text):
    return json.loads(text, parse_float=Decimal)


for line in open(sys.argv[1], encoding="utf-8"):
    answer = json.loads(line)
    schema = exact(json.dumps(answer["schema"]))
    try:
        value = exact(answer["text"])
        problems = list(Draft202012Validator(schema, format_checker=FORMATS).iter_errors(value))
        problem = problems[0].message if problems else None
    except ValueError as error:
        problem = str(error)
    if problem:
        print(f"{answer['keyword']}: {json.dumps(answer['text'])} for {json.dumps(answer['schema'])}: {problem}")
