"""Validates answers: lines of {"keyword", "schema", "text"} in the file of the argument; prints those that are invalid.

Numbers are read exactly, because a random number may have more digits than a double.
"""

import json
import sys
from decimal import Decimal

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.validators import validator_for

sys.set_int_max_str_digits(0)
# Those that fireside enforces.
NAMES = ["date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"]
FORMATS = FormatChecker(formats=[])
# A name is missing here if the package that checks it is.
FORMATS.checkers = {name: Draft202012Validator.FORMAT_CHECKER.checkers[name] for name in NAMES}


def exact(text):
    return json.loads(text, parse_float=Decimal)


for line in open(sys.argv[1], encoding="utf-8"):
    answer = json.loads(line)
    schema = exact(json.dumps(answer["schema"]))
    validator = validator_for(schema, default=Draft202012Validator)
    try:
        value = exact(answer["text"])
        problems = list(validator(schema, format_checker=FORMATS).iter_errors(value))
        problem = problems[0].message if problems else None
    except ValueError as error:
        problem = str(error)
    if problem:
        print(f"{answer['keyword']}: {json.dumps(answer['text'])} for {json.dumps(answer['schema'])}: {problem}")
