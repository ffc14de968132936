/*
 * page.c - the style of a report. Nothing is fetched and nothing is run: fonts are the reader's own, colours
 * follow his light or dark scheme. The colours are told apart by people who do not see all hues (after Okabe
 * and Ito), and markers say the same.
 */
#include "eval/report/page.h"

#include <string.h>

#include "common/printable.h"

/* clang-format off */
static const char style[] =
    ":root{color-scheme:light dark;--ground:#fff;--panel:#f5f7f9;--ink:#1a2029;--soft:#59636f;"
    "--rule:#d6dce3;--grid:#e4e8ed;--good:#00704f;--bad:#b3261e;--half:#8a5a00;--c0:#0067a8;"
    "--c1:#c94f00;--c2:#00875f;--c3:#b04a86;--c4:#a87400;--c5:#2f8fc9;--c6:#6a4fb3;--c7:#5d6570}\n"
    "@media(prefers-color-scheme:dark){:root{--ground:#11151b;--panel:#191f27;--ink:#e4e9ef;"
    "--soft:#9ba7b5;--rule:#323b46;--grid:#262e38;--good:#4cc79b;--bad:#ff8a7d;--half:#e5b04a;"
    "--c0:#5aaef0;--c1:#f28a45;--c2:#34c795;--c3:#e390bf;--c4:#e3b341;--c5:#8fd3ff;--c6:#b29cf5;"
    "--c7:#a5afba}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--ground);color:var(--ink);"
    "font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif}\n"
    "main{max-width:1180px;margin:0 auto;padding:40px clamp(16px,2.4vw,28px) 72px}\n"
    "h1{font-size:1.95rem;line-height:1.2;margin:0 0 .35em;letter-spacing:-.01em}\n"
    "h2{font-size:1.35rem;line-height:1.3;margin:0 0 .25em}\n"
    "h3{font-size:1rem;margin:0 0 .4em}\n"
    "h3{overflow-wrap:anywhere}h3 small{font-weight:400;color:var(--soft)}\n"
    "section{margin-top:52px;padding-top:26px;border-top:1px solid var(--rule)}\n"
    ".soft{color:var(--soft)}\n"
    ".reading{color:var(--soft);max-width:48em;margin:0 0 1.5em}\n"
    ".note{color:var(--soft);font-size:.86rem;margin:.7em 0 0;max-width:60em}\n"
    "nav{display:flex;flex-wrap:wrap;gap:4px 20px;margin:22px 0 0;font-size:.92rem}\n"
    "a{color:var(--c0)}\n"
    "pre,code{font:.86rem/1.55 ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace}\n"
    "pre{background:var(--panel);border-radius:8px;padding:13px 16px;margin:18px 0 0;"
    "white-space:pre-wrap;overflow-wrap:anywhere}\n"
    "dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));gap:14px 32px;"
    "margin:22px 0 0}\n"
    "dt{color:var(--soft);font-size:.82rem}\n"
    "dd{margin:0;overflow-wrap:anywhere}\n"
    ".grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));"
    "gap:38px 44px}\n"
    ".grid.one{grid-template-columns:1fr}.grid>*{min-width:0}\n"
    "figure{margin:0}\n"
    "article figure+figure{margin-top:.8rem}\n"
    "svg.chart{display:block;width:100%;height:auto;max-width:640px;overflow:visible}svg.wide{"
    "max-width:1180px}\n"
    "svg text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif;"
    "fill:var(--soft)}\n"
    "svg .title{fill:var(--ink)}\n"
    "svg .grid-line{stroke:var(--grid)}svg .axis{stroke:var(--rule)}\n"
    "svg .whole{stroke:var(--ink);stroke-width:1.4;stroke-dasharray:6 4;opacity:.75}\n"
    "svg .line{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round}\n"
    "svg .whisker{stroke:currentColor;stroke-width:1.5;fill:none;opacity:.7}\n"
    "svg .mark{fill:currentColor;stroke:var(--ground);stroke-width:1}\n"
    "svg .hit{fill:transparent}svg .point:hover .mark{stroke:var(--ink);stroke-width:2}\n"
    ".legend{display:flex;flex-wrap:wrap;gap:2px 18px;list-style:none;margin:0 0 8px;padding:0;"
    "font-size:.84rem}\n"
    ".legend li{display:flex;align-items:center;gap:7px;overflow-wrap:anywhere}\n"
    ".legend svg{flex:none}\n"
    ".k0{color:var(--c0)}.k1{color:var(--c1)}.k2{color:var(--c2)}.k3{color:var(--c3)}.k4{"
    "color:var(--c4)}.k5{color:var(--c5)}.k6{color:var(--c6)}.k7{color:var(--c7)}.legend span{"
    "color:var(--ink)}\n"
    ".table{overflow-x:auto;margin-top:12px}\n"
    "table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums;"
    "min-width:min(100%,30em)}\n"
    "th,td{padding:4px 0 4px 14px;text-align:right;white-space:nowrap;"
    "border-bottom:1px solid var(--grid)}\n"
    "th{font-weight:500;color:var(--soft)}thead th{border-bottom-color:var(--rule)}\n"
    "th:first-child,td:first-child{padding-left:0;text-align:left}tbody th{color:var(--ink);"
    "font-weight:400;white-space:normal;overflow-wrap:anywhere;min-width:6.5em}\n"
    "td b{font-weight:700}td small{display:block;color:var(--soft);font-size:.9em;line-height:1.3}\n"
    ".grid table{width:100%;max-width:640px}.grid.one table{max-width:none}\n"
    ".grid th+th,.grid td{padding-left:8px}\n"
    "details{margin-top:12px;font-size:.9rem}summary{cursor:pointer;color:var(--soft)}\n"
    ".case{margin-top:34px}.case:first-of-type{margin-top:0}\n"
    ".case h3{font-size:1.05rem;margin:0}.case p{margin:.1em 0 0;overflow-wrap:anywhere}\n"
    ".shots{display:grid;grid-template-columns:repeat(auto-fill,minmax(140px,1fr));gap:18px 14px;"
    "margin-top:12px}\n"
    ".shots figure{min-width:0}.shots figure+figure{margin-top:0}\n"
    ".shots img{display:block;width:100%;height:auto;border-radius:5px;border:1px solid var(--rule)}\n"
    ".shots img+img{margin-top:4px}\n"
    ".shots figcaption{font-size:.83rem;line-height:1.4;margin-top:6px;overflow-wrap:anywhere}\n"
    ".shots q{quotes:none;display:block;max-height:7em;overflow-y:auto}\n"
    ".verdict{display:block;font-weight:600}\n"
    ".right{color:var(--good)}.wrong{color:var(--bad)}.partly{color:var(--half)}\n"
    ".scale{display:flex;align-items:center;gap:10px;font-size:.84rem;color:var(--soft);"
    "margin:0 0 22px}\n"
    ".scale img{width:180px;height:12px;border-radius:3px;image-rendering:auto}\n"
    "footer{margin-top:56px;padding-top:16px;border-top:1px solid var(--rule);color:var(--soft);"
    "font-size:.84rem}\n"
    "@media print{section{break-inside:avoid}}\n";
/* clang-format on */

static void put_ascii(FILE *out, char c) {
    const char *name = c == '&'   ? "&amp;"
                       : c == '<' ? "&lt;"
                       : c == '>' ? "&gt;"
                       : c == '"' ? "&quot;"
                                  : NULL;
    if (name)
        fputs(name, out);
    else if (c >= ' ' || c == '\t' || c == '\n' || c == '\r')
        fputc(c, out);
}

void page_part(FILE *out, const char *text, size_t n) {
    for (const char *at = text, *end = text + n; at < end;) {
        int step = printable_step(at);
        if (step == 1)
            put_ascii(out, *at);
        else if (step && step <= end - at)
            fwrite(at, 1, (size_t)step, out);
        else
            fputs("\xef\xbf\xbd", out);
        at += step ? step : 1;
    }
}

void page_text(FILE *out, const char *text) {
    if (text) page_part(out, text, strlen(text));
}

/* Pointing at a name in a legend leaves its own line alone in the chart. */
static void highlight(FILE *out) {
    for (int k = 0; k < PAGE_COLOURS; k++)
        fprintf(out, "figure:has(.legend .k%d:hover) .series:not(.k%d){opacity:.13}\n", k, k);
}

void page_begin(FILE *out, const char *title) {
    fputs(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>",
        out);
    page_text(out, title);
    fputs("</title>\n<style>\n", out);
    fputs(style, out);
    highlight(out);
    fputs("</style>\n</head>\n<body>\n<main>\n", out);
}

void page_end(FILE *out) {
    fputs("</main>\n</body>\n</html>\n", out);
}

void page_section(FILE *out, const char *id, const char *heading, const char *reading) {
    fprintf(out, "<section id=\"%s\">\n<h2>%s</h2>\n<p class=\"reading\">%s</p>\n", id, heading, reading);
}

void page_section_end(FILE *out) {
    fputs("</section>\n", out);
}
