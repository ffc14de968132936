#!/usr/bin/env python3
"""Writes templates.json: small templates, each with what jinja2 makes of it as transformers sets it up, one a line
{template, variables, text}; without text where it is refused. They cover what test/templates.py finds in templates
of the hub, and what it does not. Run it anywhere jinja2 >= 3.1.6 is."""
import json
import os

import jinja_reference

HERE = os.path.dirname(os.path.abspath(__file__))
VALUES = {
    "t": "Hello World", "e": "", "s": "  a  b \n", "u": "äöü ß 語 \U0001f600", "q": "it's \"x\" <b> & \\ \t\x01\u2028",
    "n": 7, "z": 0, "m": -3, "f": 2.5, "yes": True, "no": False, "nil": None,
    "l": [3, 1, 2], "w": ["b", "A", "c", "a"], "el": [], "d": {"b": 1, "a": [1, {"x": None}], "C": "y"}, "ed": {},
    "ms": [{"role": "user", "content": "One"}, {"role": "assistant", "content": "Two", "n": 2},
           {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Three"}]}],
    "items": [{"k": "x", "v": {"p": [10, 20]}}, {"k": "y", "v": {"p": [30, 40]}}, {"k": "X"}],
}  # fmt: skip
EXPRESSIONS = """
1 + 2 * 3 - 4 | 2 ** 3 ** 2 | 7 // 2 | -7 // 2 | 7 % 3 | -7 % 3 | 7 / 2 | 1 / 0 | 1 // 0 | 5 % 0 | 2.5 * 2 | 1e3 | 1e16 | 1e-5 | 0.1 + 0.2
7.0 // 2 | -7.5 % 2 | 0x1f + 0b11 + 0o17 | 1_000 | 9223372036854775807 | -n | +n | - - n | -f | -t | not n | not not e | 10 - 2 - 3
't' ~ 1 ~ none ~ true ~ 2.0 | t + 'x' | t + 1 | 1 + t | 'ab' * 3 | 3 * 'ab' | 'ab' * -1 | [1] * 2 | l + [4] | l + (4,) | (1, 2) + (3,) | t - 1
1 < 2 | 1 < 2 < 3 | 3 > 2 > 2 | 1 <= 1.0 | 'a' < 'b' | 'a' < 1 | l < [3, 2] | 1 == 1.0 | 1 == true | '1' == 1 | none == nil | l == [3, 1, 2]
d == {'b': 1, 'a': [1, {'x': none}], 'C': 'y'} | l != el | x == y | x == none | x < 1 | x + 1 | x ~ 'a' | x.a | x['a'] | x() | x[0] | x[1:]
'o' in t | 'z' not in t | 3 in l | 4 not in l | 'a' in d | 1 in d | x in t | 't' in x | 1 in 5 | 'a' in none | n and f | z and f | z or f | n or x
t if n else e | t if z | (t if z else e) ~ '.' | 1 if false else 2 if false else 3 | t and e or 'n' | not t == e | (1, 2, 3)[1] | (1,) | () | [1, 2,] | {} | {'a': 1,}
t[0] | t[-1] | t[99] | t[1:4] | t[:-6] | t[::-1] | t[::2] | t[8:2] | t[2:8:3] | u[1] | u[-1] | u[2:6] | l[0] | l[-1] | l[9] | l[1:] | l[::-1] | l[:2] | l['a'] | t['a']
t[n:] | l[f] | l[::0] | l[none:none] | t['x':] | d['b'] | d.b | d['x'] | d.x | d.a[1].x | d.items | d['items'] | none.a | none[0] | n.a | (5)[0] | l.0 | d[l]
t.upper() | t.lower() | u.upper() | t.title() | 'hello wORLD'.capitalize() | 'aBc'.swapcase() | s.strip() ~ '|' | s.lstrip() ~ '|' | s.rstrip() ~ '|' | t.strip('Hd') | t.lstrip('Hel') | t.rstrip('dl')
s.split() | t.split('o') | t.split('o', 1) | t.rsplit('o', 1) | t.split(' ', maxsplit=1) | 'a,b,,c'.split(',') | ''.split() | ''.split(',') | ' a b c '.split(none, 1) | t.split('') | t.split(1)
'a\\nb\\r\\nc\\n'.splitlines() | 'a\\nb'.splitlines(true) | t.partition(' ') | t.partition('x') | t.rpartition('o') | t.rpartition('x') | ', '.join(w) | ', '.join(l) | '-'.join('abc')
t.replace('o', '0') | t.replace('o', '0', 1) | 'abc'.replace('', '-') | t.replace('x', 'y') | t.startswith('He') | t.startswith(('x', 'He')) | t.endswith('ld') | t.endswith(l) | t.startswith(1)
t.find('o') | t.find('x') | u.find('語') | t.rfind('o') | t.index('W') | t.index('x') | t.count('l') | t.count('') | t.removeprefix('Hello') | t.removesuffix('World') | t.removeprefix('x')
'12'.isdigit() | 'a1'.isalnum() | 'ab'.isalpha() | ' '.isspace() | ''.isdigit() | 'AB'.isupper() | 'aB'.islower() | 'ab'.islower() | '7'.zfill(3) | '-7'.zfill(4) | 'a'.center(4) ~ '|' | 'a'.ljust(3, '.') | 'a'.rjust(3)
'{} {}'.format(1, 'a') | '{0} {1} {0}'.format('a', 'b') | '{n} {x.b}'.format(n=1, x=d) | '{{}}'.format() | '{}'.format() | '{x[b]}'.format(x=d) | '%s is %d' % ('a', 3) | '%s' % t | '%05.2f|%x|%-4s|%4s|%%' % (f, 255, 'a', 'b')
'%d' % 'a' | '%s' % (1, 2) | '%s %s' % 1 | '%(a)s' % {'a': 1} | '%s' % [1, 2] | '%r' % 'a' | '%.1s' % t | '%s' % x | 'a' % x | (l|select('odd')).count(1) | '%+d' % 3 | '%q' % 3 | t.nothing | t.nothing()
d.get('b') | d.get('x') | d.get('x', 1) | d.get() | d.keys() | d.keys() | list | d.values() | list | d.items() | list | d.copy() | d.pop('b') | l.append(1) | d.update({}) | l.count(1) | l.index(2) | l.index(9)
t|upper | t|lower | 'a b'|title | "it's (a) b-c"|title | q.splitlines() | 'a'.ljust(3, '') | (u * 2000).replace('\u00fc', 'ue').split(' ')|length | q|indent | ''|indent ~ '|' | 'a\\n'|indent ~ '|' | 'a\\r\\nb'|indent(1) | 'ABC'|capitalize | s|trim ~ '|' | t|trim('Hd') | n|upper | nil|upper | x|upper | l|string | n|string ~ 1 | t|length | u|length | l|length | d|length | x|length | n|length | nil|count
t|replace('o', '0') | t|replace('o', '0', 1) | n|replace(7, 8) | t|replace('o') | l|first | el|first | t|first | l|last | el|last | t|last | l|list | t|list | d|list | n|list | x|list | l|reverse|list | t|reverse | u|reverse
l|join | l|join(', ') | w|join(n) | items|join('-', attribute='k') | t|join('.') | d|join(',') | n|join | el|join(',') ~ '.' | l|sort | w|sort | w|sort(case_sensitive=true) | w|sort(true) | l|sort(reverse=true) | items|sort(attribute='k')|map(attribute='k')|list
[1, 'a']|sort | d|sort | d|dictsort | d|dictsort(true) | d|dictsort(reverse=true) | {'a': 2, 'b': 1}|dictsort(false, 'value') | l|min | l|max | w|min | w|max | el|min | items|max(attribute='k') | l|sum | f|sum | items|sum(attribute='v.p.0') | el|sum(start=3)
w|unique|list | [1, 1.0, true, 2]|unique|list | l|batch(2)|list | l|batch(2, 'x')|list | l|map('string')|list | w|map('upper')|join | w|map('replace', 'a', 'x')|list | items|map(attribute='v.p.1', default=0)|list | items|map(attribute='k')|join | l|map('nothing')|list
l|select('odd')|list | l|reject('odd')|list | l|select|list | l|select('gt', 1)|list | l|select('in', [1, 2])|list | items|selectattr('v')|list|length | items|selectattr('k', 'equalto', 'x')|list|length | items|rejectattr('k', 'eq', 'x')|map(attribute='k')|list
ms|selectattr('role', '==', 'user')|list|length | nil|selectattr('a')|list | n|selectattr('a')|list | l|select('odd')|length | l|select('odd') is iterable | (l|select('odd')) and 1 | el|select and 1 | d|items|list | x|items|list | n|items | t|int | '12'|int | ' 12 '|int | '1.9'|int | 'x'|int(5)
f|int | -2.7|int | nil|int | 'ff'|int(base=16) | yes|int | '2.5'|float | 'x'|float | n|float | 'x'|float(1.5) | m|abs | -2.5|abs | t|abs | f|round | 2.567|round(2) | 2.1|round(0, 'ceil') | 2.9|round(method='floor') | n|round
x|default('d') | e|default('d') | e|default('d', true) | nil|default('d') | n|d(1) | x|default | x.a|default('d') | t|default('d') | d|attr('b') | t|attr('upper') | 'a\\nb\\n\\nc'|indent | 'a\\nb'|indent(2, true) | 'a\\n\\nb'|indent(2, blank=true) | 'a\\nb'|indent('> ') | t|center(20) ~ '|'
t|truncate(8) | t|truncate(8, true) | t|truncate(8, true, '..', 0) | t|truncate(5, false, '', 0) | n|truncate(2) | l|indent | 'abcdef'.center(3) | 'abcdef'.center(7) ~ '|' | 'abcde'.center(8) ~ '|' | q|wordcount | 'a b'|wordcount | '%s-%s'|format(1, 2) | '%(a)s'|format(a=1) | q|escape | q|e|length | (q|safe) + '<' | '<' + (q|safe) | (q|safe) ~ '<' | (t|safe) is escaped | (q|safe)|replace('<', '>') | (t|safe)|upper + '<'
d|tojson | q|tojson | u|tojson | u|tojson(ensure_ascii=true) | d|tojson(indent=2) | l|tojson(indent=0) | el|tojson(indent=2) | ed|tojson(indent=2) | d|tojson(sort_keys=true) | d|tojson(separators=(',', ':')) | (1, 2)|tojson | x|tojson | l|select|tojson | nil|tojson | f|tojson | 1e100|tojson | {1: 2, none: 3, true: 4, 2.5: 5}|tojson
{(1, 2): 3}|tojson | d.items()|tojson | t|nothing | t is nothing | t is string | n is string | n is number | yes is number | yes is boolean | n is boolean | n is integer | yes is integer | f is float | n is float | nil is none | x is none | x is defined | x is undefined | n is defined | d.x is defined
d is mapping | l is mapping | l is sequence | t is sequence | d is sequence | n is sequence | x is sequence | l is iterable | t is iterable | n is iterable | x is iterable | d.items() is sequence | d.items() is iterable | yes is true | n is true | no is false | z is false | t.upper is callable | n is callable
n is odd | n is even | n is divisibleby 7 | n is divisibleby(2) | n is eq 7 | n is ne 7 | n is gt 6 | n is lt 6 | n is ge 7 | n is le 6 | n is in [7] | n is sameas 7 | l is sameas l | t is upper | 'a' is lower | 'upper' is filter | 'odd' is test | n is not odd | n is not none and n | n is odd is even | n is string or n
range(3)|list | range(1, 7, 2)|list | range(3, 0, -1)|list | range(0)|list | range(100001) | range(1, 2, 0) | range('a') | dict(a=1, b=2) | dict([('a', 1)]) | dict(d, b=2) | namespace(a=1).a | namespace(a=1).b | namespace({'a': 1}).a | namespace(_a=1) | strftime_now('%Y-%m-%d %H:%M %B %b %d') | strftime_now('') ~ '.'
raise_exception('no ' ~ t) | raise_exception() | nothing() | n() | [[1, [2.5, 'a\\'b', none]], (true,), {'a': 'b"c\\'d'}] | 'a\\x41\\u00e9\\t' | "a'b" | 'a' 'b' "c" | u ~ '' | [u, q] | [1e22, 1.5e-7, 100.0, 1/3] | true ~ True ~ none ~ None | loop | caller
"""
TEMPLATES = [
    # white space
    "a\n{% if yes %}\nb\n{% endif %}\nc\n", "a\n  {% if yes %}  \n  b\n  {% endif %}\nc\n\n", "a {%- if yes -%} b {%- endif -%} c",
    "a  {{- t -}}  b", "a\n  {{ t }}\nb", "  {# x #}\n  a {# y #} b\n{#- z -#}\n c", "  {%+ if yes %}a{% endif %}", "{% if yes +%}\na{% endif %}",
    "{% if yes %}\n\n\na{% endif %}", "\t {% set a = 1 %}\n{{ a }}\n", "x{% if yes %}   {% endif %}y", "a\r\nb\rc{{ 1 }}\r\n",
    "{% raw %}{{ x }} {% y %}{% endraw %}", "a {%- raw -%}  {{ x }}  {%- endraw -%} b", "  {% raw %}\n a {% endraw %}\n", "{{ '{{' }}{{ '%}' }}", "{{ {'a': {'b': 1}}}}",
    "{# a", "{{", "{{ 1", "{% if", "{{ 'a }}", "{{ }}", "{% %}", "{{ 1 }", "a } b }} c %}", "{{ (1 }}", "{{ 1) }}", "{% raw %} a", "{{ 1 2 }}", "{{ a b }}", "{% foo %}",
    "{#+ a +#}\nb", "{#- -#}", "{{+ 1 }}", "{{- 1 +}}", " \n {%- set x = 1 %} \n b",
    # if
    "{% if z %}a{% elif n %}b{% else %}c{% endif %}", "{% if z %}a{% elif z %}b{% else %}c{% endif %}", "{% if x %}a{% endif %}", "{% if n: %}a{% endif %}", "{% if %}a{% endif %}", "{% if n %}", "{% if n %}{% endfor %}",
    "{% if n > 5 and not z %}y{% endif %}", "{% if n, z %}y{% endif %}", "{% if no %}{{ t|nothing }}{% endif %}a", "{% if yes %}{{ t|nothing }}{% endif %}a", "{% if no %}{% for i in l %}{{ i|nothing }}{% endfor %}{% endif %}",
    "{{ (t|nothing) if no else 1 }}", "{{ 1 if yes else t is nothing }}", "{% if no %}{{ t is nothing }}{% endif %}",
    # for
    "{% for i in l %}{{ i }},{% endfor %}", "{% for i in el %}a{% else %}none{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}", "{% for c in u %}{{ c }}.{% endfor %}",
    "{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.depth }}{{ loop.cycle('a', 'b') }}\n{% endfor %}",
    "{% for i in l if i > 1 %}{{ loop.index }}:{{ i }} {{ loop.last }}{% else %}x{% endfor %}", "{% for i in l if i > 9 %}{{ i }}{% else %}x{% endfor %}", "{% for i in [1, 1, 2] %}{{ loop.changed(i) }}{% endfor %}", "{% for i in x %}a{% endfor %}b",
    "{% for i in n %}a{% endfor %}", "{% for a, b in [(1, 2), [3, 4]] %}{{ a + b }}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}", "{% for a, (b, c) in [(1, (2, 3))] %}{{ a + b + c }}{% endfor %}", "{% for i in 1, 2 %}{{ i }}{% endfor %}",
    "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}", "{% break %}", "{% for i in l %}{% macro f() %}{% break %}{% endmacro %}{% endfor %}",
    "{% set a = 1 %}{% for i in l %}{% set a = i %}{{ a }}{% endfor %}{{ a }}", "{% for i in l %}{{ a }}{% set a = i %}{% endfor %}", "{% set ns = namespace(a=0) %}{% for i in l %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}", "{% for i in l %}{% endfor %}{{ i }}|{{ loop }}",
    "{% for i in l %}{% for j in l %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}", "{% for i in items recursive %}{{ i.k }}{% if i.c %}({{ loop(i.c) }}){% endif %}{{ loop.depth0 }}{% endfor %}",
    "{% for i in [{'k': 1, 'c': [{'k': 2, 'c': [{'k': 3}]}]}] recursive %}[{{ i.k }}{{ loop(i.c) if i.c }}{{ loop.depth }}]{% endfor %}", "{% for i in l %}{{ loop(l) }}{% endfor %}", "{% for loop in l %}{% endfor %}",
    "{% for i in l|select('odd') %}{{ loop.length }}{{ i }}{% endfor %}", "{% set g = l|select('odd') %}{{ g|list }}{{ g|list }}", "{% for i in l -%}\n {{ i }}\n{%- endfor %}", "{% for x in l if x is odd %}{{ x }}{% endfor %}",
    # set
    "{% set a = 1 %}{{ a }}", "{% set a, b = 1, 2 %}{{ b }}{{ a }}", "{% set a = 1, 2 %}{{ a }}", "{% set a, b = 1 %}", "{% set a %}x{{ n }}{% endset %}{{ a }}{{ a is string }}", "{% set a | upper | replace('X', 'y') %}x{{ t }}{% endset %}{{ a }}", "{% set d.b = 1 %}", "{% set x.b = 1 %}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{% set ns.b = ns.a + 1 %}{{ ns.b }}{{ ns.c }}{{ ns }}", "{% set ns = namespace(x=1) %}{% set ns._y = 1 %}", "{% set 1 = 2 %}", "{% set true = 1 %}", "{% if yes %}{% set a = 1 %}{% endif %}{{ a }}", "{% set a = a %}{{ a }}|", "{% set messages = l %}{{ messages }}", "{% set ns.a = 1 %}",
    "{% set ns = namespace(a=1) %}{% set ns.a, b = 2, 3 %}{{ ns.a }}{{ b }}", "{% set ns = namespace(a=1) %}{% set ns.a %}z{% endset %}{{ ns.a }}", "{% set a = {'x': 1} %}{% set b = dict(a, y=2) %}{{ a }}{{ b }}",
    # macro, call, filter, with
    "{% macro f(a, b=2) %}{{ a }}{{ b }};{% endmacro %}{{ f(1) }}{{ f(1, 3) }}{{ f(b=4, a=5) }}{{ f() }}", "{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}", "{% macro f(a) %}{% endmacro %}{{ f(c=2) }}", "{% macro f(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, 3, c=4) }}",
    "{% macro f(a=x) %}{{ a }}{% endmacro %}{% set x = 1 %}{{ f() }}", "{% set x = 1 %}{% macro f() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ f() }}", "{% macro f() %}{% set y = 1 %}{% endmacro %}{{ f() }}{{ y }}|", "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro f(a, b=a) %}{{ b }}{% endmacro %}{{ f(3) }}", "{% macro f(a, a2=1, b) %}{% endmacro %}", "{{ f(1) }}{% macro f(a) %}{{ a }}{% endmacro %}", "{% macro f(x) -%}\n  {{ x }}\n{%- endmacro %}[{{ f('a') }}]", "{% macro f() %}{{ caller() }}!{% endmacro %}{% call f() %}a{{ n }}{% endcall %}",
    "{% macro f() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) f() %}{{ a }}-{{ b }}{% endcall %}", "{% macro f() %}a{% endmacro %}{% call f() %}b{% endcall %}", "{% macro f() %}{{ caller is defined }}{{ caller }}{% endmacro %}{{ f() }}", "{% call 1 %}{% endcall %}", "{% macro f(a) %}<{{ a }}>{% endmacro %}{{ l|map('string')|join }}{{ f('x')|upper }}",
    "{% filter upper %}a{{ t }}{% endfilter %}", "{% filter replace('a', 'b')|upper %}aba{% endfilter %}", "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}|", "{% with %}{% set a = 1 %}{% endwith %}{{ a }}|", "{% with a = 1 %}{% with b = a %}{{ b }}{% endwith %}{% endwith %}",
    "{% generation %}a{{ n }}{% set k = 1 %}{% endgeneration %}{{ k }}|", "{% for i in l %}{% generation %}{{ i }}{% endgeneration %}{% endfor %}", "{% print n, t %}", "{% macro f(*a) %}{% endmacro %}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(*[1]) }}{{ f(**{'a': 2}) }}{{ f(*l) }}",
    "{% set f = range %}{{ f(2)|list }}", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{% for i in l %}{% macro f() %}{{ i }}{% endmacro %}{{ f() }}{% endfor %}", "{% macro f(d) %}{% for k, v in d|items %}{{ k }}{% if v is mapping %}({{ f(v) }}){% endif %}{% endfor %}{% endmacro %}{{ f({'a': {'b': {'c': 1}}}) }}",
    "{% macro f(x) %}{{ x }}{% endmacro %}{{ f.name }}{{ f is callable }}", "{% include 'a' %}", "{% import 'a' as b %}", "{% extends 'a' %}", "{% do l %}",
    # chats
    "{{ bos_token }}{% for message in ms %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}{{ message.role }}: {% if message.content is string %}{{ message.content|trim }}{% else %}{% for c in message.content %}{% if c.type == 'image' %}<image>{% elif 'text' in c %}{{ c.text }}{% endif %}{% endfor %}{% endif %}<end>\n{% endfor %}",
    "{%- for m in ms[::-1] %}{{ m['content'] }}\n{% endfor %}", "{%- set first = ms[0] if ms[0].role == 'user' else none -%}{{ first.content if first is not none }}", "{%- set loop_ms = ms[1:] %}{{ loop_ms|length }}{{ (ms|last).role }}{{ ms[-1]['content'][1]['text'] }}",
]  # fmt: skip


def cases():
    for line in EXPRESSIONS.strip().split("\n"):
        for expression in split(line):
            yield "{{ " + expression + " }}"
    yield from TEMPLATES


def split(line):
    """Expressions are parted by " | "; a filter's "|" has no blanks around it, or stands before list."""
    parts = line.split(" | ")
    for i, part in enumerate(parts):
        if part == "list":
            continue
        yield part + (" | list" if i + 1 < len(parts) and parts[i + 1] == "list" else "")


def main():
    lines = []
    for template in cases():
        made = jinja_reference.render(template, json.loads(json.dumps(VALUES)))  # a filter may change a list
        if " at 0x" in made.get("text", "") or "object" in made.get("text", ""):
            made = {}  # an address: nothing that could be told
        lines.append(json.dumps({"template": template} | ({"text": made["text"]} if "text" in made else {}), ensure_ascii=True))
    with open(os.path.join(HERE, "templates.json"), "w") as f:
        f.write('{"variables": ' + json.dumps(VALUES) + ',\n "cases": [\n' + ",\n".join(lines) + "\n]}\n")
    print(len(lines), "templates,", sum('"text": ' in line for line in lines), "texts")


if __name__ == "__main__":
    main()
