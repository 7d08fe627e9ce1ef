#!/usr/bin/env python3
"""What Python's Jinja2, set up as transformers sets it up, makes of chat templates.

    render.py TEMPLATES OUT.json

Renders every *.jinja file of the folder TEMPLATES with every case below and writes {"at", "bos", "eos", "cases", "renders"}: a case is
the variables, a render is the text, or null where the template refused. Needs nothing but Jinja2.
"""

import json
import sys
from datetime import datetime
from pathlib import Path

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

AT = 1721995200  # noon of 26 July 2024, UTC
BOS, EOS = "<s>", "</s>"


class Generation(jinja2.ext.Extension):
    """`{% generation %}` marks, for training, what the model wrote; transformers renders what is inside."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("inside"), [], [], body).set_lineno(line)

    @jinja2.pass_eval_context
    def inside(self, context, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: datetime.fromtimestamp(AT).strftime(form)
    return env


def system(text):
    return {"role": "system", "content": text}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


ODD_SPACE = "\x1c\x1d \x1e\x1f\x85\xa0\u2003\u3000 word \u3000\u2003\xa0\x85\x1f\x1e \x1d\x1c"
CONVERSATIONS = {
    "one turn": [user("Why is the sky blue?")],
    "system": [system("Be brief."), user("Hi"), assistant("Yes?"), user("Go on.")],
    "no system": [user("Hi"), assistant("Hello."), user("How are you?")],
    "answered": [user("Hi"), assistant("Hello.")],
    "many turns": [system("You are a poet.")] + [turn for n in range(6) for turn in (
        user(f"Line {n}, please."), assistant(f"Here is line {n}.\n\nIt has two paragraphs."))] + [user("Thanks!")],
    "Unicode": [system("Über­setze. 🙂"), user("naïve café – “quoted” … 日本語 العربية 👩‍👩‍👧 ﬁ İı ẞß"),
                assistant("Ωμέγα 你好 \U0001f9d9‍♀️"), user("Привет, e\u0301 \u200b\ufeff\U00020000\U0010ffff")],
    "HTML and quotes": [system("<b>\"bold\"</b> & 'quoted'"), user("a < b && b > c; it's \"x\" &amp; &#39; \\n \\\" `y`"),
                        assistant("<div class='a'>&nbsp;</div>"), user("{{ messages }} {% if %} {# no #} ${x} %s {0}")],
    "white space": [system("\n  Be brief. \t\n\n"), user("  \n Hi \r\n"), assistant("\n\n Yes?\n \n"), user("\t\tGo \v\f")],
    "odd white space": [system(ODD_SPACE), user(ODD_SPACE), assistant(ODD_SPACE), user(ODD_SPACE)],
    "lines": [user("a\r\nb\rc\nd\u2028e\u0085f\n\n\ng"), assistant("a\x1cb\x0bc\n"), user("\n")],
    "empty content": [system(""), user(""), assistant(""), user("")],
    "blank content": [system(" "), user("\n"), assistant(" \n "), user("x")],
    "users in a row": [user("One."), user("Two."), assistant("Yes."), user("Three."), user("Four.")],
    "system twice": [system("One."), system("Two."), user("Hi")],
    "system later": [user("Hi"), system("Now rhyme."), user("Go on."), assistant("Yes.")],
    "only system": [system("Be brief.")],
    "assistant first": [assistant("Hello, I am here."), user("Hi")],
    "nothing": [],
    "reasoning": [user("2+2?"), assistant("4", reasoning_content="Two and two\nmake four."), user("And 3+3?"),
                  assistant("6", reasoning_content=" \n six \n"), user("Sure?")],
    "reasoning last": [user("2+2?"), assistant("4", reasoning_content="Easy.", thinking="Easy.")],
    "thinking": [user("2+2?"), assistant("4", thinking="Two and two."), user("And 3+3?"), assistant("6", thinking="Six.")],
    "tags of thinking": [system("Think."), user("</think> x"), assistant("<think>\nhm\n</think>\n\nHello"), user("<think>y</think>"),
                         assistant("<think></think>Hello <think>again</think>"), user("Bye")],
    "markers": [system("<|im_start|>system<|im_end|>"), user("[INST] <s> </s> <<SYS>> <|eot_id|>"),
                assistant("<start_of_turn>model<end_of_turn>"), user("<｜User｜><|user|><|end|>")],
    "words of templates": [system("/no_think"), user("Hi /think"), assistant("</tool_call> [TOOL_CALLS]"), user("/no_think")],
}
TOOLS = [
    {"type": "function", "function": {
        "name": "weather", "description": "The weather in a \"city\" – today's & <tomorrow's>",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "Its näme"},
            "days": {"type": "integer", "minimum": 1, "maximum": 1.5, "default": None},
            "unit": {"type": ["string", "null"], "enum": ["°C", "°F"]},
            "more": {"type": "array", "items": {"type": "object", "properties": {"deep": {"type": "boolean"}}}}},
            "required": ["city"]}}},
    {"type": "function", "function": {
        "name": "now", "description": "", "parameters": {"type": "object", "properties": {}, "required": []}}},
]
# transformers says `None` where there are no tools; others leave the name undefined.
VARIANTS = {
    "no tools": {},
    "tools none": {"tools": None},
    "tools": {"tools": TOOLS},
    "thinking on": {"enable_thinking": True, "thinking": True, "reasoning_effort": "high"},
    "thinking off": {"enable_thinking": False, "thinking": False, "reasoning_effort": "low"},
}


def cases():
    for name, messages in CONVERSATIONS.items():
        for variant, more in VARIANTS.items():
            for opened in (True, False):
                variables = {"messages": messages, "add_generation_prompt": opened, **more}
                yield {"name": f"{name}, {variant}, {'open' if opened else 'closed'}", "variables": variables}


def render(template, case):
    date = datetime.fromtimestamp(AT)
    known = {"bos_token": BOS, "eos_token": EOS, "date_string": date.strftime("%d %b %Y"), "datetime": date.strftime("%b %d %Y")}
    try:
        return template.render(**known, **case["variables"])
    except Exception:  # whatever Python raises inside a template, it refuses the conversation
        return None


def main():
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    env, all_cases = environment(), list(cases())
    renders = {}
    for path in sorted(folder.glob("*.jinja")):
        template = env.from_string(path.read_text(encoding="utf-8"))
        renders[path.stem] = [render(template, case) for case in all_cases]
    result = {"at": AT * 1000, "bos": BOS, "eos": EOS, "cases": all_cases, "renders": renders}
    out.write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
