"""jinja2 as transformers sets it up for chat templates (utils/chat_template_utils.py), with a clock that stands."""
import datetime
import functools
import json

import jinja2
import jinja2.ext
import jinja2.sandbox


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("call"), [], [], body).set_lineno(line)

    def call(self, caller):
        return caller()


class Namespace(jinja2.utils.Namespace):
    """Without names that begin with _."""

    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        values = dict(*args, **kwargs)
        for name in values:
            Namespace.check(name)
        jinja2.utils.Namespace.__init__(self, values)

    def __setitem__(self, name, value):
        Namespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(name)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


@functools.lru_cache(maxsize=256)
def compiled(source, now):
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    moment = datetime.datetime.fromtimestamp(now, datetime.timezone.utc)
    env.filters["tojson"] = tojson
    env.globals |= {"raise_exception": raise_exception, "strftime_now": moment.strftime, "namespace": Namespace,
                    "dict": lambda *args, **kwargs: dict(*args, **kwargs)}  # fmt: skip
    return env.from_string(source)


def render(source, variables, now=0):
    """{"text": ...} or {"error": ...}."""
    try:
        return {"text": compiled(source, now).render(**{"tools": None, "documents": None, **variables})}
    except Exception as e:
        return {"error": f"{type(e).__name__}: {e}"}
